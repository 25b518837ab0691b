"""Killed at any moment and run again, every stage leaves what a run that was let alone leaves.

The landing files come in two editions. The lake is brought from one to the other and back, killed
on the way, so that old and new lie side by side; after each change all tables are what a run that
nobody killed makes of that edition. All the while a reader finds whole objects.
"""

import gzip
import itertools
import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from contracts.config.sources import link_source
from contracts.lake.layout import Lake
from contracts.lake.publishing import remove_folder
from features.ingestion.lookup_tables import build_items
from tests import crash
from tests.s3 import chain, work
from tests.s3.conftest import forget_connections, new_bucket
from tests.s3.watch import Watcher

crash.preload("tests.s3.work")

# What each stage makes; the features of an edition are built anew, for rows are only ever added.
MAKES = {
    "land": ("landing/", "quarantine/landing/"),
    "events": ("events/", "quarantine/events/", "quarantine/stopped/"),
    "sessions": ("sessions/",),
    "user_behavior_features": ("user_behavior_features/",),
}


def second_edition(first: Path, second: Path) -> None:
    """Copies landing files; of every fifth, drops each third row and spoils each seventh."""
    shutil.copytree(first, second)
    for path in sorted(second.glob("events/*/*.jsonl.gz"))[::5]:
        lines = gzip.decompress(path.read_bytes()).splitlines()
        lines = [line for number, line in enumerate(lines) if number % 3]
        lines[::7] = [line[:-5] for line in lines[::7]]
        path.write_bytes(gzip.compress(b"\n".join(lines) + b"\n", mtime=0))


@dataclass
class Place:
    """A lake on its way between two editions, and how often it was killed."""

    lake: Lake
    environment: dict[str, str]
    editions: list[Path]
    stages: tuple[str, ...] = work.STAGES
    expected: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)  # of all that undisturbed runs have left
    kills: int = 0
    runs: int = 0

    def turn_to(self, edition: int) -> None:
        """Makes an edition the one that lies in the source folder."""
        link_source("shop", str(self.editions[edition]))

    def forget_derived(self) -> None:
        """Removes features and what is kept for them, so that they are built from nothing."""
        for folder in {name.partition("/")[0] for name in chain.names(self.lake)}:
            if folder.startswith("user_"):
                remove_folder(self.lake.table(folder))

    def made_by(self, stage: str) -> dict[str, Any]:
        """Returns all that a stage has made."""
        return chain.contents(self.lake, MAKES[stage])

    def learn(self) -> None:
        """Runs every stage undisturbed, for both editions, and remembers what came out."""
        crash.steps_of(os.getpid)  # the server of all children is up after it
        for edition in (0, 1):
            self.turn_to(edition)
            build_items(chain.SHOP, self.lake)
            self.forget_derived()
            for stage in self.stages:
                started = time.monotonic()
                self.steps[stage] = crash.steps_of(work.run, stage, self.environment)
                self.seconds[stage] = time.monotonic() - started
                self.expected[stage, edition] = self.made_by(stage)
            self.names |= chain.names(self.lake)

    def kill_until_done(self, stage: str, edition: int, dice: random.Random) -> None:
        """Runs a stage again and again until it is let through, at the latest the fourth time."""
        kills, runs = crash.kill_until_done(
            dice, self.seconds[stage], self.steps[stage], bool, work.run, stage, self.environment
        )
        self.kills += kills
        self.runs += runs
        assert self.made_by(stage) == self.expected[stage, edition]


def kill(place: Place, watcher: Watcher, kills: int, seed: int) -> None:
    """Brings a lake from edition to edition until it was killed so often, and looks at the end."""
    dice = random.Random(seed)
    place.learn()
    with watcher:
        for edition in itertools.cycle((0, 1)):
            if place.kills >= kills:
                break
            place.turn_to(edition)
            place.forget_derived()
            for stage in place.stages:
                place.kill_until_done(stage, edition, dice)
    assert watcher.faults == []
    assert watcher.looks > place.kills
    left = {name for name in chain.names(place.lake) if not name.startswith("_staging/")}
    assert left <= place.names
    _check_staging(place)


def _check_staging(place: Place) -> None:
    """Checks that what killed runs have left in staging goes once it is old."""
    staging = place.lake.work / "_staging"
    folders = list(staging.iterdir())
    assert folders, "no run was killed while it was writing"
    for folder in folders:
        os.utime(folder, (0, 0))
    with place.lake.staging() as own:
        assert list(staging.iterdir()) == [own]


@pytest.fixture(scope="session")
def editions(shop_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    second = tmp_path_factory.mktemp("second") / "shop"
    second_edition(shop_folder, second)
    return [shop_folder, second]


@pytest.fixture
def on_disk(editions: list[Path], lake_home: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.delenv("FOOTPATH_LAKE", raising=False)
    return Place(Lake.of("shop"), {"FOOTPATH_HOME": str(lake_home)}, editions)


@pytest.fixture
def on_s3(
    moto: Any, editions: list[Path], lake_home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    bucket = new_bucket(moto)
    environment = {
        "FOOTPATH_HOME": str(lake_home),
        "FOOTPATH_LAKE": f"{bucket.url}/lake",
        **moto.variables,
    }
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    forget_connections()
    yield Place(Lake.of("shop"), environment, editions)
    forget_connections()


def watcher_of(place: Place, moto: Any = None) -> Watcher:
    if moto is None:
        return Watcher(str(place.lake.root))
    return Watcher(place.environment["FOOTPATH_LAKE"][len("s3://") :] + "/shop", moto.client(), 0.2)


@pytest.mark.long
def test_a_few_kills_on_disk(on_disk: Place):
    on_disk.stages = ("land", "events")
    kill(on_disk, watcher_of(on_disk), kills=6, seed=1)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_kills_on_disk(on_disk: Place):
    kill(on_disk, watcher_of(on_disk), kills=120, seed=2)
    print(json.dumps({"kills": on_disk.kills, "steps": on_disk.steps}))


@pytest.mark.long
@pytest.mark.server
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [3, 4, 5, 6])
def test_kills_on_s3(on_s3: Place, moto: Any, seed: int):
    kill(on_s3, watcher_of(on_s3, moto), kills=20, seed=seed)
    print(json.dumps({"kills": on_s3.kills, "steps": on_s3.steps}))
