"""Progress bars: on a terminal only, gone when the work ends, and the terminal given back."""

import os
import pty
import subprocess
import sys

import dagster as dg
import pytest

from orchestration.progress import TerminalProgress, counter
from tests.conftest import REPOSITORY

COUNTING = """
import time
from orchestration.progress import counter
with counter("days of [red]x") as report:
    for done in range(1_001):
        report(done, 2_000)
    time.sleep(0.5)
    {then}
"""
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


def on_a_terminal(code: str) -> str:
    """All that a program writes to a terminal."""
    parent, child = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
        stdout=child,
        stderr=child,
    ):
        os.close(child)
        written = b""
        try:
            while part := os.read(parent, 65536):
                written += part
        except OSError:  # what Linux says when the last writer has gone
            pass
    os.close(parent)
    return written.decode()


@pytest.mark.parametrize("then", ["report(2_000, 2_000)", "raise SystemExit('broken')"])
def test_a_terminal_shows_how_far_work_is_and_gets_its_cursor_back(then):
    written = on_a_terminal(COUNTING.format(then=then))
    assert "days of [red]x" in written
    assert "1,000 of 2,000" in written
    assert written.count(HIDE) == 1
    assert written.rindex(SHOW) > written.rindex("days of")


def test_what_is_piped_has_no_bars(capsys):
    with counter("days") as report:
        report(1, 2)
        report(2, 2)
    assert capsys.readouterr() == ("", "")


def test_a_run_that_fails_gives_the_terminal_back():
    code = """
import dagster as dg
from orchestration.progress import TerminalProgress

@dg.asset
def broken(context: dg.AssetExecutionContext, progress: TerminalProgress):
    report = progress.of(context, "landing files")
    report(1_000, 2_000)
    raise dg.Failure("broken")

job = dg.Definitions(
    [broken], jobs=[dg.define_asset_job("all")], resources={"progress": TerminalProgress()}
).resolve_job_def("all")
quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
with dg.DagsterInstance.ephemeral() as instance:
    result = job.execute_in_process(
        quiet, instance, resources={"progress": TerminalProgress()}, raise_on_error=False
    )
assert not result.success
"""
    written = on_a_terminal(code)
    assert "landing files: " in written
    assert written.rindex(SHOW) > written.rindex(HIDE)
    assert "Traceback" not in written


def test_a_run_without_a_terminal_counts_nothing(capsys):
    @dg.asset
    def counted(context: dg.AssetExecutionContext, progress: TerminalProgress) -> None:
        progress.of(context, "landing files")(1, 2)

    with dg.DagsterInstance.ephemeral() as instance:
        resources = {"progress": TerminalProgress()}
        assert dg.materialize([counted], instance=instance, resources=resources).success
    assert "landing files" not in capsys.readouterr().err
