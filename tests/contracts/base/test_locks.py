"""What several processes read, change and write at a time loses nothing."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contracts.base.errors import FootpathError
from contracts.base.locks import locked
from contracts.config.sources import source_folder
from contracts.lake.layout import Lake, home
from contracts.lake.versions import all_versions
from tests.conftest import REPOSITORY

HOLD = (
    "import sys, time; from pathlib import Path; from contracts.base.locks import locked\n"
    "with locked(Path(sys.argv[1])):\n"
    "    print('held', flush=True); time.sleep(600)"
)
# Both wait for the same file, so that neither has ended before the other has begun.
TOGETHER = (
    "import sys, time; from pathlib import Path; start, mine = Path(sys.argv[1]), sys.argv[2]\n"
    "{imports}\n"
    "print('ready', flush=True)\n"
    "while not start.exists(): time.sleep(0.001)\n"
    "for n in range(20): {step}"
)
LINK = TOGETHER.format(
    imports="from contracts.config.sources import link_source",
    step="link_source(f's-{mine}-{n}', f'/data/{mine}/{n}')",
)
ALLOCATE = TOGETHER.format(
    imports="from contracts.lake.layout import Lake; from contracts.lake.versions import allocate",
    step="allocate(Lake.of('shop'), 'ptum_bert4rec', f'{mine}-{n}', '2026-02-01')",
)


def run_together(program: str, start: Path, count: int) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(start), str(number)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    start.touch()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_links_made_by_several_processes_are_all_kept(lake_home, tmp_path):
    run_together(LINK, tmp_path / "start", 3)
    assert len(json.loads((home() / "sources.json").read_text())) == 60
    assert source_folder("s-2-19") == "/data/2/19"


def test_versions_allocated_by_several_processes_are_all_different(lake_home, tmp_path):
    run_together(ALLOCATE, tmp_path / "start", 2)
    found = all_versions(Lake.of("shop"))
    assert [version.version for version in found] == [f"ptum_bert4rec_v{n}" for n in range(1, 41)]
    assert len({version.trial for version in found}) == 40


def test_a_lock_is_refused_while_held_and_free_when_its_holder_is_killed(tmp_path):
    path = tmp_path / "below" / ".lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(FootpathError, match="somebody is at it"), locked(path, "somebody is at it"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    begun = time.monotonic()
    with locked(path):
        assert time.monotonic() - begun < 5
