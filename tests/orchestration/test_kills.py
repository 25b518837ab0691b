"""`footpath run` is killed in every stage up to the features, and run again: nothing differs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contracts.lake.layout import Lake
from features.shop import generate_shop
from tests.conftest import REPOSITORY
from tests.orchestration.conftest import clean_environment
from tests.s3.chain import contents

TABLES = ("events/", "item", "landing/", "quarantine/", "sessions/", "user_", "users")

# The run is killed as soon as a stage has published so many objects.
MOMENTS = (
    ("landing/files/", 5),
    ("events/", 1),
    ("sessions/", 1),
    ("user_behavior_features/", 1),
    ("item_behavior_features/", 1),
)


def start(home: Path, source: Path) -> subprocess.Popen:
    """Starts the chain up to the features in a process group of its own."""
    command = ["run", "--data", str(source), "--until", "daily"]
    return subprocess.Popen(
        [sys.executable, "-m", "orchestration.cli.main", *command],
        cwd=REPOSITORY,
        env=clean_environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(home: Path, source: Path) -> dict:
    """Runs to the end, and returns all that the lake holds."""
    run = start(home, source)
    said, _ = run.communicate(timeout=280)
    assert run.returncode == 0, said
    return contents(Lake(home / "lake" / "shop"), TABLES)


def kill_when(home: Path, source: Path, prefix: str, count: int) -> bool:
    """Starts a run and kills its whole group; False if it ended before."""
    folder = home / "lake" / "shop" / prefix
    there = set(folder.glob("*.*"))
    run = start(home, source)
    try:
        while run.poll() is None:
            if len(set(folder.glob("*.*")) - there) >= count:
                return True
            time.sleep(0.005)
        return False
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
        run.communicate()


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_a_run_killed_in_every_stage_goes_on_to_the_same_tables(tmp_path: Path):
    source = tmp_path / "source"
    generate_shop(source, users=50, days=14)
    undisturbed = finish(tmp_path / "undisturbed", source)
    home = tmp_path / "killed"
    killed = [prefix for prefix, count in MOMENTS if kill_when(home, source, prefix, count)]
    assert killed == [prefix for prefix, _ in MOMENTS]
    found = finish(home, source)
    assert found.keys() == undisturbed.keys()
    assert [name for name in found if found[name] != undisturbed[name]] == []
    assert sum(name.startswith("user_behavior_features/") for name in found) == 14
