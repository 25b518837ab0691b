"""PostgreSQL with the registry, and Redis, die while others read and write.

Whoever needs the one that is gone gets one clear sentence; what is read is right; and the next run
mends what was begun.
"""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from features.store import apply_registry, check_online, materialize, promote
from features.store.serving.opened import open_services
from tests import crash
from tests.builders.servers import Running, production_servers
from tests.features.store import states
from tests.features.store.kills import Place
from tests.features.store.states import MODELS, SHOP, USERS

pytestmark = pytest.mark.server
WORK = (("materialize", ""), ("promote", MODELS[1]), ("rollback", MODELS[1]))


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Running]]:
    with production_servers(monkeypatch) as (_, found):
        yield found


@pytest.fixture
def place(running: dict[str, Running], tmp_path: Path) -> Place:
    """A store on both servers with a promoted model."""
    place = Place(Lake.of("shop"), tmp_path)
    place.publish()
    apply_registry(SHOP, place.lake)
    for version in reversed(MODELS):
        promote(SHOP, place.lake, version)
    place.settle()
    return place


def test_a_server_that_is_gone_is_one_sentence_and_no_loss(
    place: Place, running: dict[str, Running]
):
    lake, opened = place.lake, open_services(place.lake)
    place.publish()
    needs = {
        "redis": (
            lambda: materialize(SHOP, lake),
            lambda: check_online(SHOP, lake),
            lambda: promote(SHOP, lake, MODELS[1]),
            lambda: opened.read("user_representation__v1", USERS),
        ),
        "postgres": (
            lambda: apply_registry(SHOP, lake),
            lambda: materialize(SHOP, lake),
            lambda: check_online(SHOP, lake),
            lambda: promote(SHOP, lake, MODELS[1]),
            lambda: open_services(lake),
        ),
    }
    for name, works in needs.items():
        running[name].kill()
        for work in works:
            with pytest.raises(FootpathError) as told:
                work()
            assert "\n" not in str(told.value)
            assert "password" not in str(told.value)
        if name == "postgres":  # who has the registry open needs no more of it
            assert opened.read("user_representation__v1", USERS).known == [True] * len(USERS)
        running[name].start()
    materialize(SHOP, lake)
    assert check_online(SHOP, lake).mismatches == []
    assert len({*states.aliases(lake)}) == 1


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_servers_killed_again_and_again_never_give_a_wrong_value(
    place: Place, running: dict[str, Running]
):
    dice, told = random.Random(5), []
    with place.reader():
        for number in range(24):
            what, version = WORK[number % len(WORK)]
            place.publish()
            child = crash.start(states.told_work, what, version, str(place.folder / "told"))
            time.sleep(dice.uniform(0, 2))
            server = running[("redis", "postgres")[number % 2]]
            server.kill()
            time.sleep(dice.uniform(0, 0.5))
            server.start()
            child.join()
            assert child.exitcode == 0
            told += (place.folder / "told").read_text().splitlines()
            crash.steps_of(states.work, what, version)
            crash.steps_of(states.work, "materialize")
            place.settle()
            assert len({*states.aliases(place.lake)}) == 1
    assert check_online(SHOP, place.lake).mismatches == []
    place.kills = 24
    place.report("servers")
    print("\n".join(sorted({*told})))
