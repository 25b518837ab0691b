"""Dead runs: runs whose process was killed, found and marked as failed.

In:  the run tags of unfinished runs, which name the process that carries each. Out: failed runs.
Nobody else notices such a process die with the machine, the terminal or the code server that it
was a child of, and its run stays STARTED for ever: it takes a place in the queue, holds its pools,
and keeps the sensors waiting.
"""

import multiprocessing
import os
import platform
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from orchestration.tags import BOOT, HOST, PROCESS

ALIVE = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


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
        if not _is_dead(found) or not (run := instance.get_run_by_id(found.run_id)):
            continue
        if run.status not in ALIVE or not _is_dead(run):
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


class TaggingExecutor(dg.Executor):
    """Executor that tags the run with its process, for runs that Dagster's daemon launches."""

    def __init__(self, inner: dg.Executor) -> None:
        self._inner = inner

    @property
    def retries(self) -> Any:
        """How Dagster retries steps."""
        return self._inner.retries

    @property
    def step_dependency_config(self) -> Any:
        """When Dagster starts a step."""
        return self._inner.step_dependency_config

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        """Tags the run and executes its steps."""
        _end_with_code_server()
        plan_context.instance.add_run_tags(plan_context.run_id, process_tags(plan_context.run_id))
        yield from self._inner.execute(plan_context, execution_plan)


# A process a step would import everything again for each; what is heavy has its own anyway.
@dg.executor(name="in_process", config_schema=dg.in_process_executor.config_schema)
def in_process_executor(context: dg.InitExecutorContext) -> TaggingExecutor:
    """Dagster's executor of one process, with the run tagged."""
    create = dg.in_process_executor.executor_creation_fn
    assert create
    return TaggingExecutor(create(context))


def _end_with_code_server() -> None:
    """Lets this process be killed soon after the code server that started it for its run.

    Nobody could stop the run any more, and it would outlive the stack. Dagster starts it again,
    and what it has published stays.
    """
    if not (parent := multiprocessing.parent_process()):
        return  # by hand, or in a container of its own

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="end-with-code-server", daemon=True).start()


def _is_dead(run: dg.DagsterRun) -> bool:
    """Whether the process that carries a run of this host is gone; False if that is not known."""
    tags = run.tags
    if not {BOOT, PROCESS} <= tags.keys():
        return False
    pid, start, namespace, run_id = tags[PROCESS].split("/")
    if run_id != run.run_id:
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
    """Identity of the container whose process ids are meant."""
    path = Path("/proc/self/ns/pid")
    return path.readlink().name.strip("pid:[]") if path.is_symlink() else ""
