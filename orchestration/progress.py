"""Progress of long work and its time left: bars on a terminal, lines in a run's log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import rich.progress as bars
from pydantic import PrivateAttr
from rich.console import Console

Report = Callable[[int, int], None]
SECONDS_BETWEEN_LOGS = 10.0


class Progress(dg.ConfigurableResource):
    """Gives a callback (done, total) for one piece of work; writes to the run's log."""

    def say(self, context: dg.AssetExecutionContext, line: str) -> None:
        """Reports something worth a line."""
        context.log.info(line)

    def of(self, context: dg.AssetExecutionContext, what: str) -> Report:
        """Callback for `what`, such as "landing files"."""
        last = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last > SECONDS_BETWEEN_LOGS:
                last = time.monotonic()
                context.log.info(f"{what}: {done:,} of {total:,}")

        return report


class TerminalProgress(Progress):
    """The same for `footpath run`: a bar on a terminal, nothing elsewhere."""

    _shown: bars.Progress = PrivateAttr(default_factory=lambda: _bars())

    def say(self, context: dg.AssetExecutionContext, line: str) -> None:  # noqa: ARG002
        """Prints a line."""
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def of(self, context: dg.AssetExecutionContext, what: str) -> Report:  # noqa: ARG002
        """Callback for `what`."""
        return _follow(self._shown, what)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        """Gives the terminal back, however the run has ended."""
        self._shown.stop()


@contextmanager
def counter(what: str) -> Iterator[Report]:
    """Gives a callback (done, total) that draws a bar on a terminal and is silent elsewhere."""
    shown = _bars()
    try:
        yield _follow(shown, what)
    finally:
        shown.stop()


def _bars() -> bars.Progress:
    """Bars on stderr that vanish when the work is done; what is piped has none."""
    console = Console(stderr=True)
    columns: list[Any] = [
        bars.TextColumn("   {task.description}:", markup=False),
        bars.BarColumn(),
        bars.TextColumn("{task.completed:,} of {task.total:,}", markup=False),
        bars.TimeRemainingColumn(compact=True),
    ]
    # What goes to stdout meanwhile may go to a file, so nothing is led past the bars.
    return bars.Progress(
        *columns,
        console=console,
        transient=True,
        redirect_stdout=False,
        disable=not console.is_terminal,
    )


def _follow(shown: bars.Progress, what: str) -> Report:
    """Adds a bar when the first figures come, and hides it once all is done."""
    task: bars.TaskID | None = None

    def report(done: int, total: int) -> None:
        nonlocal task
        if task is None:
            shown.start()
            task = shown.add_task(what, total=total)
        shown.update(task, completed=done, total=total, visible=done < total)

    return report
