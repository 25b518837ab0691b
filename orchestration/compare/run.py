"""Runs jobs side by side, each a process of one thread.

A job that fails says its sentence, and what needs it is left out; the others go on. Ctrl-C ends
every process; processes end with their parent too, should it be killed. Nothing half-done counts.
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json
from orchestration.compare.cells import evict
from orchestration.compare.jobs import Job, models_of
from orchestration.instance import REPOSITORY

Say = Callable[[str], None]
POLL_SECONDS = 0.05


@dataclass
class Running:
    """A job's process."""

    job: Job
    process: subprocess.Popen
    log: Path
    fault: Path
    started: float = field(default_factory=time.monotonic)


@dataclass
class Outcome:
    """What became of the jobs."""

    done: list[Job] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # title -> sentence
    seconds: dict[str, list[float]] = field(default_factory=dict)  # by kind of job


def run_jobs(
    lake: Lake, jobs: list[Job], workers: int, say: Say, keep_bytes: float = 2e9
) -> Outcome:
    """Runs jobs, those that need another after it, and publishes what they measured.

    Args:
      lake: of the data set.
      jobs: in the order in which they begin.
      workers: processes at a time.
      say: is told a line a job.
      keep_bytes: how much of checkpoints is kept, beyond those that are still needed.

    Raises:
      FootpathError: another comparison of the data set runs.
    """
    with _alone(lake):
        return _run(lake, jobs, workers, say, keep_bytes)


@contextlib.contextmanager
def _alone(lake: Lake) -> Iterator[None]:
    path = lake.work / "compare" / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FootpathError(
                f"another comparison runs in {path.parent}: wait until it ends, or stop it"
            ) from None
        yield


def _run(lake: Lake, jobs: list[Job], workers: int, say: Say, keep_bytes: float) -> Outcome:
    waiting, running, outcome, total = list(jobs), [], Outcome(), len(jobs)
    try:
        while waiting or running:
            while len(running) < workers and (job := _next(waiting, outcome)):
                running.append(_start(lake, job))
            ended = [each for each in running if each.process.poll() is not None]
            for each in ended:
                running.remove(each)
                _finish(each, outcome)
                if each.job.title in outcome.failed and each.job.parts:
                    del outcome.failed[each.job.title]  # its tasks are tried one by one
                    waiting = each.job.parts + waiting
                    total += len(each.job.parts) - 1
                    continue
                say(_tell(each, outcome, total, waiting, running, workers))
                needed = set(models_of(waiting)) | set(models_of([r.job for r in running]))
                evict(lake.work / "compare" / "models", needed, keep_bytes)
            if not ended:
                time.sleep(POLL_SECONDS)
    finally:
        for each in running:
            each.process.terminate()
        for each in running:
            each.process.wait()
    return outcome


def _next(waiting: list[Job], outcome: Outcome) -> Job | None:
    """Takes the first job whose need is met out of the waiting; drops those that cannot be met."""
    for job in list(waiting):
        if job.needs is None or job.needs in outcome.done:
            waiting.remove(job)
            return job
        if job.needs.title in outcome.failed:
            waiting.remove(job)
            outcome.failed[job.title] = f"not measured, for '{job.needs.title}' failed"
    return None


def _start(lake: Lake, job: Job) -> Running:
    folder = lake.work / "compare" / "running" / job.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path, log, fault = folder / f"{job.name}.json", folder / "output.jsonl", folder / "fault"
    publish_json(lake, job.config | {"threads": 1}, path)
    environment = os.environ | {
        "FOOTPATH_DIE_WITH_PARENT": "1",
        "FOOTPATH_FAULT_FILE": str(fault),
        "OMP_NUM_THREADS": "1",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", job.module, str(path)],
            cwd=REPOSITORY,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process, which ends the others
        )
    return Running(job, process, log, fault)


def _finish(each: Running, outcome: Outcome) -> None:
    job, code = each.job, each.process.returncode
    if code == 0:
        try:
            job.publish()
        except (FootpathError, OSError) as error:
            outcome.failed[job.title] = str(error)
            return
        outcome.done.append(job)
        outcome.seconds.setdefault(job.kind, []).append(time.monotonic() - each.started)
        shutil.rmtree(each.log.parent, ignore_errors=True)
        return
    if each.fault.exists():
        sentence = each.fault.read_text().strip()
    elif code < 0:
        sentence = f"its process was killed by signal {-code}; run the same command to go on"
    else:
        sentence = f"{_last_line(each.log)} (all of it: {each.log})"
    outcome.failed[job.title] = sentence


def _tell(
    each: Running,
    outcome: Outcome,
    total: int,
    waiting: list[Job],
    running: list[Running],
    workers: int,
) -> str:
    count = len(outcome.done) + len(outcome.failed)
    took = f"{time.monotonic() - each.started:.1f} s"
    said = outcome.failed.get(each.job.title)
    what = f"failed: {said}" if said else took
    left = _seconds_left(outcome, waiting, running, workers)
    rest = f"; about {_clock(left)} left" if left is not None and count < total else ""
    return f"[{count}/{total}] {each.job.title}: {what}{rest}"


def _seconds_left(
    outcome: Outcome, waiting: list[Job], running: list[Running], workers: int
) -> float | None:
    """Returns an estimate from jobs of the same kind, or of the same program."""
    known = outcome.seconds
    if not known:
        return None
    mean = {kind: sum(each) / len(each) for kind, each in known.items()}
    overall = sum(mean.values()) / len(mean)
    now = time.monotonic()
    left = sum(mean.get(job.kind, overall) for job in waiting)
    left += sum(max(0, mean.get(r.job.kind, overall) - (now - r.started)) for r in running)
    return left / workers


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    last = lines[-1] if lines else "it said nothing"
    try:
        return str(json.loads(last).get("text", last))
    except (ValueError, AttributeError):
        return last
