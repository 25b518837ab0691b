"""A store that is locked, or whose disk is full, is one sentence that names the file."""

import resource
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from features.store import apply_registry, check_online, materialize, promote, repository
from features.store.repository import open_store
from tests.builders.datasets import shop
from tests.builders.store import DAY, HOUR, behavior_rows, publish_behavior, small_lake

SHOP, MODEL = shop(), "ptum_bert4rec_v1"
Work = Callable[[Lake], object]
WORK: dict[str, Work] = {
    "apply": partial(apply_registry, SHOP),
    "materialize": partial(materialize, SHOP),
    "check": partial(check_online, SHOP),
    "promote": lambda lake: promote(SHOP, lake, "coles_bag_v1"),
}


@pytest.fixture
def lake(lake_home: Path) -> Lake:
    """A served lake with a second version that may be promoted."""
    lake = small_lake(lake_home, (MODEL, "coles_bag_v1"))
    apply_registry(SHOP, lake)
    promote(SHOP, lake, MODEL)
    return lake


def read(lake: Lake) -> dict:
    store = open_store(lake)
    service = store.get_feature_service("user_representation__v1")
    return store.get_online_features(service, [{"user_id": "u1"}]).to_dict()


def test_a_locked_file_is_a_sentence_and_nothing_is_lost(lake: Lake, monkeypatch):
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, timeout=0.05))
    path = repository(lake) / "online.db"
    writer = sqlite3.connect(path, isolation_level=None)
    before = read(lake)
    writer.execute("BEGIN EXCLUSIVE")
    for work in WORK.values():
        with pytest.raises(FootpathError) as told:
            work(lake)
        assert "feature_store.yaml (footpath_feast.sqlite.SqliteOnlineStore" in str(told.value)
        assert "refused: " in str(told.value)
        assert "database is locked" in str(told.value)
        assert "\n" not in str(told.value)
    with pytest.raises(sqlite3.OperationalError, match=rf"^{path}: database is locked: if a wri"):
        read(lake)
    writer.execute("ROLLBACK")
    writer.close()
    assert read(lake) == before
    for work in WORK.values():
        work(lake)
    assert check_online(SHOP, lake).mismatches == []


def test_a_full_disk_is_a_sentence_and_the_rows_come_once_there_is_room(lake: Lake):
    rows = behavior_rows(SHOP, DAY, [f"user {n}" for n in range(200)], 7, 3 * HOUR)
    before_it = behavior_rows(SHOP, DAY, [f"u{k}" for k in range(5)], 30)
    publish_behavior(lake, DAY, before_it, rows)
    path = repository(lake) / "online.db"
    before, limit = read(lake), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, limit[1]))
    try:
        with pytest.raises(FootpathError) as told:
            materialize(SHOP, lake)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "\n" not in str(told.value)
    assert str(repository(lake)) in str(told.value)
    assert read(lake) == before
    assert materialize(SHOP, lake).views["user_behavior_features_v1"] == 200
    assert check_online(SHOP, lake).mismatches == []
