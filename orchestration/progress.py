"""How long work tells how far it is: to the run's log in Dagster, to the terminal by hand."""

import sys
import time
from collections.abc import Callable

import dagster as dg

Report = Callable[[int, int], None]
SECONDS_BETWEEN_LOGS = 10.0


class Progress(dg.ConfigurableResource):
    """Gives a callback (done, total) for one piece of work; writes to the run's log."""

    def say(self, context: dg.AssetExecutionContext, line: str) -> None:
        """Reports something worth a line."""
        context.log.info(line)

    def of(self, context: dg.AssetExecutionContext, what: str) -> Report:
        """Returns the callback for `what`, such as "landing files"."""
        last = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last > SECONDS_BETWEEN_LOGS:
                last = time.monotonic()
                context.log.info(f"{what}: {done:,} of {total:,}")

        return report


class TerminalProgress(Progress):
    """The same for `footpath run`: one line that counts on a terminal, none elsewhere."""

    def say(self, context: dg.AssetExecutionContext, line: str) -> None:  # noqa: ARG002
        """Prints a line."""
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def of(self, context: dg.AssetExecutionContext, what: str) -> Report:  # noqa: ARG002
        """Returns the callback for `what`."""
        started = last = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if not sys.stderr.isatty() or (now - last < 0.2 and done < total):
                return
            last = now
            left = (now - started) / max(done, 1) * (total - done)
            end = "\033[K\r" if done < total else "\033[K\r\033[K"
            sys.stderr.write(f"  {what}: {done:,} of {total:,}, {left:.0f} s left{end}")
            sys.stderr.flush()

        return report
