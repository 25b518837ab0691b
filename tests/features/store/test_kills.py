"""Materialization and promotion are killed at any step and moment, while others go on to read.

Nobody reads a value that is wrong, or of another state than the user's other values are; a
promotion is whole or has not been; the next run ends what was begun.
"""

import contextlib
import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.lake.layout import Lake
from features.store import apply_registry, check_online, promote
from features.store.promotions import read_promotions
from features.store.services import REPRESENTATION_SERVICE, known_services
from tests import crash
from tests.features.store import states
from tests.features.store.kills import Place
from tests.features.store.states import MODELS, SHOP, work
from tests.redis_server import redis_server

KINDS = [pytest.param("sqlite"), pytest.param("redis", marks=pytest.mark.server)]


@pytest.fixture(params=KINDS)
def place(
    request: pytest.FixtureRequest, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """A store on SQLite or Redis with a promoted model."""
    with contextlib.ExitStack() as stack:
        if request.param == "redis":
            port = stack.enter_context(redis_server(tmp_path))
            monkeypatch.setenv("FOOTPATH_ONLINE_STORE", f"redis://127.0.0.1:{port}/0")
        place = Place(lake, tmp_path)
        place.publish()
        apply_registry(SHOP, lake)
        for version in reversed(MODELS):
            promote(SHOP, lake, version)
        place.settle()
        yield place


def measured(*arguments: str) -> tuple[float, int]:
    """Seconds and steps of work that is not disturbed."""
    start = time.monotonic()
    steps = crash.steps_of(work, *arguments)
    return time.monotonic() - start, steps


def kill_materialization(place: Place, kills: int, seed: int) -> None:
    """Brings states online until that was killed so often; the reader is on meanwhile."""
    dice = random.Random(seed)
    place.publish()
    seconds, steps = measured("materialize")
    place.settle()
    wanted = place.kills + kills
    with place.reader():
        while place.kills < wanted:
            place.publish()
            killed, _ = crash.kill_until_done(dice, seconds, steps, bool, work, "materialize")
            place.kills += killed
            place.settle()
    check = check_online(SHOP, place.lake)
    assert check.mismatches == []
    assert check.equal == check.sampled > 0


def kill_promotion(place: Place, kills: int, seed: int) -> None:
    """Promotes and rolls back until that was killed so often; the reader is on meanwhile.

    There is always a new state as well, which a promotion brings online.
    """
    dice, lake = random.Random(seed), place.lake
    seconds, steps = measured("promote", MODELS[1])
    crash.steps_of(work, "rollback", MODELS[1])
    services = {f"{REPRESENTATION_SERVICE}__v{number}" for number in (1, 2)}

    def is_whole() -> None:
        assert {*states.aliases(lake)} <= services

    wanted = place.kills + kills
    with place.reader():
        for what, version in itertools.cycle((("promote", MODELS[1]), ("rollback", MODELS[0]))):
            if place.kills >= wanted:
                break
            place.publish()
            killed, _ = crash.kill_until_done(dice, seconds, steps, is_whole, work, what, MODELS[1])
            place.kills += killed
            crash.steps_of(work, "materialize")
            place.settle()
            assert len({*states.aliases(lake)}) == 1
            promoted = known_services(lake).promoted(REPRESENTATION_SERVICE)
            record = read_promotions(lake).of(REPRESENTATION_SERVICE)
            assert promoted is not None
            assert promoted.tags["model_version"] == version == record.history[-1].version
            assert record.held == ((MODELS[1],) if what == "rollback" else ())
    assert check_online(SHOP, lake).mismatches == []


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_few_kills_of_materialization_and_of_promotion(place: Place):
    kill_materialization(place, kills=1, seed=1)
    kill_promotion(place, kills=2, seed=2)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_kills_of_materialization(place: Place):
    kill_materialization(place, kills=50, seed=3)
    place.report("materialization")


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_kills_of_promotion_and_roll_back(place: Place):
    kill_promotion(place, kills=50, seed=4)
    place.report("promotion")


def test_two_promotions_at_once_go_one_after_the_other(place: Place):
    place.publish()
    children = [crash.start(work, "promote", version) for version in MODELS]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert len({*states.aliases(place.lake)}) == 1
    history = read_promotions(place.lake).of(REPRESENTATION_SERVICE).history
    promoted = known_services(place.lake).promoted(REPRESENTATION_SERVICE)
    assert promoted is not None
    assert promoted.tags["model_version"] == history[-1].version
    assert history[-2].version != history[-1].version
    assert check_online(SHOP, place.lake).mismatches == []
