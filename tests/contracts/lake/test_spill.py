"""What does not fit into memory lies in the home, unseen by others, and outlives nobody."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contracts.base.errors import FootpathError
from contracts.base.locks import OwnFolder, sweep_left
from contracts.lake.engine import connect
from contracts.lake.layout import Lake, home, spill_folder
from tests.conftest import REPOSITORY

SPILLS = (
    "import time; from contracts.lake.engine import connect\n"
    "c = connect(); c.execute('CREATE TEMP TABLE t AS SELECT range AS n, hash(range) AS h FROM "
    "range(20_000_000)'); print('spilled', flush=True); time.sleep(600)"
)
STAGES = (
    "import time; from contracts.lake.layout import Lake\n"
    "with Lake.of('shop').staging() as folder:\n"
    "    (folder / 'half').write_text('x'); print('staged', flush=True); time.sleep(600)"
)


def running(program: str) -> subprocess.Popen:
    """A process that has come to the point at which it would be killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def killed(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate()


def test_spill_of_a_killed_process_is_in_the_home_and_goes_when_the_next_one_starts(
    lake_home, monkeypatch
):
    monkeypatch.setenv("FOOTPATH_MEMORY", "100MB")
    process = running(SPILLS)
    spilled = [path for path in (home() / "spill").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in spilled) > 10_000_000
    assert stat.S_IMODE((home() / "spill").stat().st_mode) == 0o700
    own = spill_folder()
    assert len(list((home() / "spill").iterdir())) == 4  # two folders and their locks
    killed(process)
    monkeypatch.setattr("contracts.lake.layout._SPILL", [])  # as another process has it
    new = spill_folder()
    folders = {path for path in new.parent.iterdir() if path.is_dir()}
    assert folders == {own, new}


def test_staging_of_a_killed_process_goes_at_once_and_that_of_a_running_one_stays(lake_home):
    lake = Lake.of("shop")
    first, second = running(STAGES), running(STAGES)
    killed(first)
    with lake.staging() as folder:
        others = [p for p in folder.parent.iterdir() if p.is_dir() and p != folder]
    assert len(others) == 1
    killed(second)
    with lake.staging() as folder:
        assert list(folder.parent.glob("*/half")) == []


@pytest.mark.parametrize("size", ["lots", "0GB", "4", "-1GB"])
def test_a_memory_bound_that_is_no_size_is_told(lake_home, monkeypatch, size):
    monkeypatch.setenv("FOOTPATH_MEMORY", size)
    with pytest.raises(FootpathError, match=f"FOOTPATH_MEMORY is '{size}': it takes a size"):
        connect()


def test_an_empty_home_is_none(monkeypatch):
    monkeypatch.setenv("FOOTPATH_HOME", "")
    assert home() == Path.cwd() / ".footpath"


def test_a_folder_of_another_machine_goes_when_it_is_idle_too(tmp_path, monkeypatch):
    monkeypatch.setattr("contracts.base.locks.socket.gethostname", lambda: "elsewhere")
    young, old = OwnFolder(tmp_path), OwnFolder(tmp_path)
    for own in (young, old):
        own._lock.release()  # as the end of its process does, or a disk that shares no locks
    os.utime(old.path, (time.time() - 2 * 3600,) * 2)
    monkeypatch.undo()
    sweep_left(tmp_path, 24 * 3600)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [young.path]
