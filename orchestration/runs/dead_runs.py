"""Dead runs: runs whose process was killed, found and marked as failed.

In:  the run tags of unfinished runs, which name the process that carries each. Out: failed runs.
Nobody else notices such a process die with the machine, the terminal or the code server that it
was a child of, and its run stays STARTED for ever: it takes a place in the queue, holds its pools,
and keeps the sensors waiting.
"""

import os
import platform
from collections.abc import Mapping
from pathlib import Path

import dagster as dg

from orchestration.tags import BOOT, HOST, PROCESS

ALIVE = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
UNFINISHED = [dg.DagsterRunStatus.QUEUED, *ALIVE]


def process_tags(run_id: str) -> dict[str, str]:
    """Run tags that name this process as the one that carries the run."""
    # With the id of the run: a run that is retried gets the tags of the one before it.
    process = f"{os.getpid()}/{_start_of(os.getpid())}/{_pid_namespace()}/{run_id}"
    return {HOST: platform.node(), BOOT: _boot_id(), PROCESS: process}


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Marks the dead runs of this host as failed and frees what they hold.

    Returns:
      One sentence for each.
    """
    ended = []
    unfinished = dg.RunsFilter(statuses=ALIVE, tags={HOST: platform.node()})
    for found in instance.get_runs(unfinished):
        # Its process may have ended well since the runs were listed.
        if not is_dead(found.tags, found.run_id) or not (
            run := instance.get_run_by_id(found.run_id)
        ):
            continue
        if run.status not in ALIVE or not is_dead(run.tags, run.run_id):
            continue
        pid = run.tags[PROCESS].split("/")[0]
        reason = (
            f"The process of run {run.run_id} ({run.job_name}), {pid} on {run.tags[HOST]}, was "
            f"killed or its machine restarted. What it published stays; run the same again."
        )
        instance.report_run_failed(run, reason)
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        ended.append(reason)
    return ended


@dg.sensor(
    name="end_dead_runs",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Marks runs of this host as failed whose process has died.",
)
def dead_runs_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Sensor that ends dead runs while nobody opens the instance otherwise."""
    return dg.SkipReason(" ".join(end_dead_runs(context.instance)) or "every run has its process")


def is_dead(tags: Mapping[str, str], run_id: str) -> bool:
    """Whether the process that the tags name is gone; False if it is another host's, or not known.

    Args:
      tags: of a run, or of what waits for one.
      run_id: of that run; a run that is retried has the tags of the one before it.
    """
    if not {HOST, BOOT, PROCESS} <= tags.keys() or tags[HOST] != platform.node():
        return False
    pid, start, namespace, tagged = tags[PROCESS].split("/")
    if tagged != run_id:
        return False
    if tags[BOOT] != _boot_id():
        return True
    if namespace != _pid_namespace():
        return False  # of another container of this host, whose processes are not seen here
    return _start_of(int(pid)) not in (start, "")


def _start_of(pid: int) -> str | None:
    """Start of a process, in ticks since boot; "" where that is not known, None if it is gone."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # of another user
    try:
        # The name of the program stands in parentheses, and may hold some itself.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return None if fields[0] in "ZX" else fields[19]


def _boot_id() -> str:
    """Identity of this start of the machine; "unknown" where the system has none."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else "unknown"


def _pid_namespace() -> str:
    """Identity of the container whose process ids are meant.

    FOOTPATH_CONTAINER names one that has a host name of its own, and successors of the same name.
    """
    if name := os.environ.get("FOOTPATH_CONTAINER"):
        return name
    path = Path("/proc/self/ns/pid")
    return path.readlink().name.strip("pid:[]") if path.is_symlink() else ""
