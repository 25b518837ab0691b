"""How a program of this room speaks: JSON lines by hand, Dagster Pipes when Dagster started it.

By hand, standard output gets one JSON object a line; the last one is the result. Through Pipes,
the same objects go to Dagster as custom messages, and progress to its log as well.

Of the ranks that `torchrun` starts the first one alone speaks; another tells only its own fault.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from contracts.base.errors import FootpathError
from contracts.base.schema import Strict
from contracts.recipes.jobs import load_job
from models.runtime.distributed import RankLostError, joined

JobT = TypeVar("JobT", bound=Strict)

BY_PIPES = "DAGSTER_PIPES_CONTEXT"
WITH_PARENT = "FOOTPATH_DIE_WITH_PARENT"
TERMINAL = "FOOTPATH_TERMINAL"  # set where a person watches: progress goes to stderr as well
FAULT_FILE = "FOOTPATH_FAULT_FILE"  # where whoever started the program looks for its sentence
BY_TORCHRUN, RANK, RANKS = "TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE"
_PR_SET_PDEATHSIG = 1


class Reporter:
    """Tells whoever started the program how far it is."""

    def __init__(self, pipes: Any = None, rank: int = 0) -> None:
        self._pipes, self._rank = pipes, rank
        self._every = 10.0 if pipes else 1.0  # seconds
        self._last = -self._every
        self._name = Path(sys.argv[1]).stem if os.environ.get(TERMINAL) else ""

    def progress(self, step: int, steps: int, **figures: Any) -> None:
        """Reports progress, at most once a second by hand and every ten seconds to Dagster."""
        now = time.monotonic()
        if self._rank or (now - self._last < self._every and step < steps):
            return
        self._last = now
        self._send({"event": "progress", "step": step, "steps": steps, **figures})
        self._show(f"step {step} of {steps}{_listed(figures)}")

    def epoch(self, epoch: int, epochs: int, **figures: float) -> None:
        """Reports the figures of an epoch that is over; Dagster plots them while training runs."""
        if self._rank:
            return
        self._send({"event": "epoch", "epoch": epoch, "epochs": epochs, **figures})
        if self._pipes:
            self._pipes.log.info(f"epoch {epoch} of {epochs}{_listed(figures)}")

    def say(self, text: str) -> None:
        """Reports something worth a line."""
        if self._pipes:
            self._pipes.log.info(text)
        else:
            self._send({"event": "log", "text": text})

    def warn(self, text: str) -> None:
        """Reports something that a person should look at."""
        if self._pipes:
            self._pipes.log.warning(text)
        else:
            self._send({"event": "warning", "text": text})
        if self._name:
            sys.stderr.write(f"   {self._name}: {text}\n")

    def result(self, values: dict[str, Any]) -> None:
        """Reports what the program achieved; the last thing it says."""
        self._send({"kind": "result", **values})

    def fault(self, text: str) -> None:
        """Reports why the program stops."""
        if self._pipes:
            self._pipes.log.error(text)
        path = os.environ.get(FAULT_FILE)
        if path and not (self._rank and Path(path).exists()):
            Path(path).write_text(text)
        sys.stderr.write(f"rank {self._rank}: {text}\n" if self._rank else text + "\n")

    def _show(self, text: str) -> None:
        if self._pipes:
            self._pipes.log.info(text)
        if self._name:
            sys.stderr.write(f"   {self._name}: {text}\n")

    def _send(self, message: dict[str, Any]) -> None:
        if self._rank:
            return
        if self._pipes:
            self._pipes.report_custom_message(message)
        else:
            sys.stdout.write(json.dumps(message) + "\n")
            sys.stdout.flush()


def run_program(
    job_class: type[JobT], work: Callable[[JobT, Reporter], dict], ranks: bool = False
) -> None:
    """Runs a program whose one argument is a JSON file; exits with 1 and a sentence on a fault.

    Args:
      job_class: what the file holds.
      work: the program.
      ranks: whether several processes of it may work together, started by `torchrun`.
    """
    if len(sys.argv) != 2:
        sys.stderr.write("expected one argument: the path of a JSON file with the job\n")
        sys.exit(2)
    die_with_parent()
    if not ranks and int(os.environ.get(RANKS, "1")) > 1:
        sys.stderr.write("this program is one process: start it without torchrun\n")
        sys.exit(2)
    with _reporter() as reporter:
        try:
            with joined():
                _run(job_class, work, reporter)
        except RankLostError as error:  # the rank that was lost has said why
            sys.stderr.write(f"{error}\n")
            sys.exit(1)


def _run(job_class: type[JobT], work: Callable[[JobT, Reporter], dict], reporter: Reporter) -> None:
    try:
        result = work(load_job(job_class, Path(sys.argv[1])), reporter)
    except FootpathError as error:
        reporter.fault(str(error))  # before the other ranks see that this one leaves
        sys.exit(1)
    reporter.result(result)


def die_with_parent() -> None:
    """Asks Linux to kill this process when its parent dies, if the parent wished so.

    A trainer that outlives the run that started it would hold the GPU and the checkpoint folder.
    Killing is safe: training resumes exactly.
    """
    wishes = (WITH_PARENT, BY_PIPES, BY_TORCHRUN)
    if sys.platform != "linux" or not any(os.environ.get(name) for name in wishes):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:  # it died before the request was made
        sys.exit(1)


@contextlib.contextmanager
def _reporter() -> Iterator[Reporter]:
    rank = int(os.environ.get(RANK, "0"))
    if rank or not os.environ.get(BY_PIPES):
        yield Reporter(rank=rank)
        return
    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as pipes:
        yield Reporter(pipes)


def _listed(figures: dict[str, Any]) -> str:
    return "".join(f", {name.replace('_', ' ')} {_short(v)}" for name, v in figures.items())


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
