"""Runs the jobs of a plan side by side, each a process that Dagster Pipes starts.

A job that fails says its sentence, and what needs it is left out; the others go on. What another
process is at work on is waited for, and found done. Processes end with their parent, and nothing
half-done counts.
"""

import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from contracts.base.errors import FootpathError, TransientError
from contracts.config.automation import Retention
from contracts.lake.layout import Lake
from contracts.recipes.jobs import EvaluationJob
from models.experiments.cells import evict, local_model
from models.experiments.planning import Job, trials_of
from orchestration.experiments.programs import run_program, stop_programs, workers_here
from orchestration.runs.retries import is_transient

KEEP_BYTES = Retention().unnamed_bytes


@dataclass
class Outcome:
    """What became of the jobs."""

    done: dict[str, dict[str, Any]] = field(default_factory=dict)  # job's name -> program's result
    failed: dict[str, str] = field(default_factory=dict)  # job's title -> sentence
    may_pass: bool = False  # whether a failure may pass by itself

    def raise_failures(self) -> None:
        """Raises where a job failed, naming each.

        Raises:
          TransientError: at least one did, and what is left may succeed another time.
          FootpathError: at least one did.
        """
        if self.failed:
            kind = TransientError if self.may_pass else FootpathError
            raise kind("\n".join(f"{title}: {said}" for title, said in self.failed.items()))


@dataclass
class Runner:
    """Where jobs run, and who is told.

    Args:
      context: of the asset that runs them.
      pipes: how their processes are started.
      lake: of the data set.
      workers: processes at a time; 0: as fits this machine.
      keep_bytes: of checkpoints without a name, beyond those that are still needed.
      say: is told a line a job; by default the run's log.
      partition: by a trial's key: the partition of the asset that its curves are of.
    """

    context: dg.AssetExecutionContext
    pipes: dg.PipesSubprocessClient
    lake: Lake
    workers: int = 0
    keep_bytes: float = KEEP_BYTES
    say: Callable[[str], None] | None = None
    partition: dict[str, str] = field(default_factory=dict)

    def run(self, jobs: Iterable[Job]) -> Outcome:
        """Runs jobs in their order, those that need another after it."""
        waiting, outcome, began = list(jobs), Outcome(), time.monotonic()
        running: dict[Future, Job] = {}
        total = len(waiting)
        workers = self.workers or workers_here()
        threads = 1 if min(workers, total) > 1 else 0
        # Models that are fine-tuned here get a name, or none, only after the run.
        tuned = {cell.key for job in waiting for cell in job.cells if cell.keeps_model}
        with ThreadPoolExecutor(workers) as pool:
            try:
                while waiting or running:
                    while len(running) < workers and (job := _next(waiting, outcome)):
                        running[pool.submit(self._run_one, job, threads)] = job
                    assert running or not waiting, f"nothing makes what {waiting[0].title} needs"
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        job = running.pop(future)
                        error = future.exception()
                        if error and job.parts:  # its tasks are tried one by one
                            waiting, total = job.parts + waiting, total + len(job.parts) - 1
                            continue
                        if error:
                            outcome.failed[job.title] = _sentence(error)
                            outcome.may_pass |= is_transient(error)
                        else:
                            outcome.done[job.name] = future.result()
                        self._tell(job, outcome, total, time.monotonic() - began)
                        still = tuned.union(trials_of([*waiting, *running.values()]))
                        evict(self.lake, still, self.keep_bytes)
            except BaseException:  # such as a run that is terminated: Pipes stops no other thread's
                pool.shutdown(wait=False, cancel_futures=True)
                while any(not future.done() for future in running):
                    stop_programs()
                    wait(running, timeout=1)
                raise
        return outcome

    def _run_one(self, job: Job, threads: int) -> dict[str, Any]:
        """Runs one job and publishes what it made, unless that is there by now."""
        with self.lake.locked(f"locks/{job.name}"):
            if job.is_done(self.lake):
                return {}
            folder = self.lake.work / "running" / job.name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            work = job.work
            runtime = work.runtime.model_copy(update={"threads": threads})
            work = work.model_copy(update={"runtime": runtime})
            if isinstance(work, EvaluationJob):
                local_model(self.lake, job.trial)  # fetched, where the lake is on S3
            result = run_program(
                self.context, self.pipes, self.lake, job.name, job.module, work,
                self.partition.get(job.trial),
            )  # fmt: skip
            job.publish(self.lake)
            shutil.rmtree(folder, ignore_errors=True)
            return result

    def _tell(self, job: Job, outcome: Outcome, total: int, seconds: float) -> None:
        count = len(outcome.done) + len(outcome.failed)
        failure = outcome.failed.get(job.title)
        left = _clock(seconds / count * (total - count)) if count < total else ""
        line = f"[{count}/{total}] {job.title}"
        line += f": failed: {failure}" if failure else ""
        (self.say or self.context.log.info)(f"{line}; about {left} left" if left else line)


def _next(waiting: list[Job], outcome: Outcome) -> Job | None:
    """Takes the first job whose need is met out of the waiting; drops those that cannot be met."""
    for job in list(waiting):
        if job.needs is None or job.needs.name in outcome.done:
            waiting.remove(job)
            return job
        if job.needs.title in outcome.failed:
            waiting.remove(job)
            outcome.failed[job.title] = f"not measured, for '{job.needs.title}' failed"
    return None


def _sentence(error: BaseException) -> str:
    return str(error) if isinstance(error, FootpathError) else f"{type(error).__name__}: {error}"


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
