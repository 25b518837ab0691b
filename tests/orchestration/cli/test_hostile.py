"""What comes in from outside stops a command with a sentence, or does nothing: no tracebacks."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from contracts.base.errors import FootpathError
from contracts.config.dataset import load_dataset
from contracts.lake.layout import Lake
from contracts.recipes.jobs import EmbedModel
from orchestration.experiments.store import comparison_folder
from tests.conftest import REPOSITORY
from tests.orchestration.cli.test_main import refused
from tests.orchestration.conftest import clean_environment, footpath
from tests.redis_server import free_port

YAML = """
name: odd
title: Odd
timezone: UTC
partitions: {start: 2026-01-01, end: 2026-01-06}
landing:
  url: "*.csv"
  format: csv
  columns: {id: VARCHAR, user: VARCHAR, ts: VARCHAR, type: VARCHAR}
events: {event_id: id, user_id: user, timestamp: ts, action: type}
actions: [view]
quality: {allow_empty_days: true, max_broken_share: 0.9}
"""
ROWS = """id,user,ts,type
1,[red]u[/bold],2026-01-05T10:00:00Z,view
2,\x1b[31mred\x1b]0;title\x07,2026-01-05T10:01:00Z,\x1b[2Jbad
3,u3,infinity,view
4,u4,-infinity,view
5,u5,20000-01-01T00:00:00Z,view
"""


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A home folder whose name looks like a pattern, with a data set of odd ids and times."""
    home = tmp_path / "we[i]rd*\\d{x}" / "home"
    (home / "datasets").mkdir(parents=True)
    (home / "datasets" / "odd.yaml").write_text(YAML)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.csv").write_text(ROWS)
    return home


def test_odd_ids_and_times_reach_no_terminal_and_end_in_no_traceback(
    odd, tmp_path, command, monkeypatch
):
    source = str(tmp_path / "source")
    ran = footpath(odd, "run", "--dataset", "odd", "--data", source, "--until", "daily")
    assert ran.returncode == 0, ran.stderr
    monkeypatch.setenv("FOOTPATH_HOME", str(odd))
    monkeypatch.setenv("FOOTPATH_DATASETS", str(odd / "datasets"))
    checked = command("datasets", "check", str(odd / "datasets/odd.yaml"), "--data", source)
    listed = command("quarantine", "show", "--dataset", "odd", "--day", "2026-01-05")
    for result in (checked, listed):
        assert result.exit_code == 0, result.output
    for said in (ran.stdout + ran.stderr, checked.output, listed.output):
        assert "\x1b" not in said
    assert "3 of 5 (60.0%) rows are refused as undated" in checked.stdout
    assert "\\x1b[2Jbad" in checked.stdout


@pytest.mark.parametrize("name", ["../shop", "/etc/passwd", "", "..", "shop\n"])
def test_a_name_that_is_a_path_is_no_data_set(tmp_path, monkeypatch, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "shop.yaml").write_text(YAML.replace("odd", "shop"))
    monkeypatch.setenv("FOOTPATH_DATASETS", str(tmp_path / "folder"))
    with pytest.raises(FootpathError, match="there is no data set"):
        load_dataset(name)


def test_names_that_people_may_give_as_partitions_lead_nowhere(lake):
    for name in ("../x", "a/b", "", ".."):
        with pytest.raises(FootpathError, match="is no name of a comparison"):
            comparison_folder(lake, name)
        with pytest.raises(ValueError, match="model_version"):
            EmbedModel.model_validate({"model_version": name, "checkpoint": "x", "days": []})
    assert comparison_folder(lake, "board.1of3").parent == Lake.of("shop").root / "comparisons"


def test_a_home_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    for home, what in (("file", "file cannot be used"), ("what?", "give a folder without '?'")):
        assert what in refused(tmp_path / home, "datasets", "enable", "shop")


def test_a_closed_output_ends_without_a_traceback(tmp_path):
    command = f"{sys.executable} -m orchestration.cli.main datasets list"
    for closed in ("| true", ">&-", "2>&- >&-"):
        done = subprocess.run(
            ["bash", "-c", f"{command} {closed}"],
            cwd=REPOSITORY,
            env=clean_environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""


SHOP = ("run", "--users", "500", "--days", "30")


def start(home: Path, *command: str) -> subprocess.Popen[str]:
    """Starts a command whose lines come as they are printed."""
    return subprocess.Popen(
        [sys.executable, "-m", "orchestration.cli.main", *command],
        cwd=REPOSITORY,
        env=clean_environment(home) | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop_in(run: subprocess.Popen[str], stage: str, stop: int, seconds: float) -> None:
    """Stops a run a while after a stage has begun, and checks how it and its children end."""
    assert run.stdout is not None
    while not (line := run.stdout.readline()).startswith(stage):
        assert line, run.communicate()[1]
    time.sleep(seconds)
    children = psutil.Process(run.pid).children(recursive=True)
    os.kill(run.pid, stop)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 128 + stop
    assert told.splitlines()[-1] == "footpath: stopped; run the same command to go on"
    assert "Traceback" not in told
    assert not psutil.wait_procs(children, timeout=20)[1]


@pytest.mark.parametrize(
    ("stop", "stage"),
    [
        (signal.SIGTERM, "1. Catalog"),
        *(
            pytest.param(stop, stage, marks=pytest.mark.long)
            for stop in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
            for stage in ("0. A synthetic shop", "1. Catalog")
            if (stop, stage) != (signal.SIGTERM, "1. Catalog")
        ),
    ],
)
def test_a_command_that_is_stopped_says_so_and_what_by(tmp_path, stop, stage):
    stop_in(start(tmp_path, *SHOP), stage, stop, 0.3)


@pytest.mark.parametrize(
    ("stop", "stage"),
    [
        (signal.SIGTERM, "0. A synthetic shop"),
        # Between Dagster's runs, whose end puts the handler of SIGINT in the place of others.
        pytest.param(signal.SIGTERM, "2. Landing", marks=pytest.mark.long),
        pytest.param(signal.SIGHUP, "2. Landing", marks=pytest.mark.long),
    ],
)
def test_a_command_in_the_background_of_a_script_which_ignores_ctrl_c_stops_too(
    tmp_path, stop, stage
):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is inherited
    try:
        run = start(tmp_path, *SHOP)
    finally:
        signal.signal(signal.SIGINT, before)
    os.kill(run.pid, signal.SIGINT)
    stop_in(run, stage, stop, 0.3)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        # What is raised in a callback of a weak reference is dropped: the stop must come again.
        ("gone = Thing(); ref = weakref.ref(gone, stop); del gone; time.sleep(9); print('on')", ""),
        # On its way out a command is left alone, however long that takes.
        ("try:\n    stop()\nfinally:\n    time.sleep(5); print('left')", "left\n"),
    ],
)
def test_a_stop_that_python_drops_comes_again_and_none_disturbs_the_way_out(body, said):
    code = (
        "import os, signal, sys, time, weakref\n"
        "from orchestration.cli import main\n"
        "class Thing: pass\n"
        "def stop(*_): os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.1)\n"
        f"def work():\n{textwrap.indent(body, '    ')}\n"
        "main._run_app = work\n"
        "sys.exit(main._exit_code(main._note_stops()))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, said), done.stderr
    assert done.stderr == "footpath: stopped; run the same command to go on\n"


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_every_stage_can_be_stopped_and_leaves_no_program_behind(tmp_path):
    for number, stop in (
        (2, signal.SIGHUP), (3, signal.SIGTERM), (4, signal.SIGINT), (5, signal.SIGTERM),
        (6, signal.SIGHUP), (7, signal.SIGTERM), (9, signal.SIGINT),
    ):  # fmt: skip
        stop_in(start(tmp_path, "run", "--users", "60", "--days", "20"), f"{number}.", stop, 0.7)


@pytest.mark.long
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_the_ui_that_is_stopped_leaves_no_server_behind(tmp_path, stop):
    port = free_port()
    run = start(tmp_path, "ui", "--port", str(port))
    address = f"http://127.0.0.1:{port}/server_info"
    for _ in range(120):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address, timeout=5).close()
            break
        time.sleep(0.5)
    children = psutil.Process(run.pid).children(recursive=True)
    assert len(children) > 2
    os.kill(run.pid, stop)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 128 + stop
    # Whatever the servers' own libraries say on their way out.
    assert "footpath: stopped; run the same command to go on\n" in told
    assert not psutil.wait_procs(children, timeout=60)[1]
