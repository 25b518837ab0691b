"""A row of the online store that is lost or forged is found, and written again."""

import shutil
import sqlite3

import pytest

from contracts.lake.layout import Lake
from features.store import apply_registry, check_online, materialize, repository, verify
from features.store import online as online_module
from features.store.changes import read_state
from tests.builders.datasets import shop
from tests.builders.store import (
    DAY,
    HOUR,
    behavior_rows,
    publish_behavior,
    small_lake,
)

VIEW = "user_behavior_features_v1"
EVERYONE = [f"u{k}" for k in range(5)]


@pytest.fixture
def lake(lake_home) -> Lake:
    lake = small_lake(lake_home)
    apply_registry(shop(), lake)
    materialize(shop(), lake)
    return lake


def change(lake: Lake, statement: str) -> None:
    connection = sqlite3.connect(repository(lake) / "online.db")
    with connection:
        assert connection.execute(statement).rowcount > 0
    connection.close()


def is_right(lake: Lake) -> bool:
    return not check_online(shop(), lake).mismatches


TABLE = f"shop_{VIEW}"
ONE = f"(SELECT entity_key FROM {TABLE} ORDER BY entity_key LIMIT 1)"
ANOTHER = f"(SELECT value FROM {TABLE} WHERE length(value) > 0 ORDER BY value DESC LIMIT 1)"


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE {TABLE} SET value = {ANOTHER} WHERE entity_key = {ONE} AND feature_name = "
        "'events_7d'",
        f"DELETE FROM {TABLE} WHERE entity_key = {ONE}",
        f"DELETE FROM {TABLE} WHERE entity_key = {ONE} AND feature_name = 'events_7d'",
        f"DELETE FROM {TABLE}",
    ],
)
def test_a_forged_or_lost_row_is_found_at_the_next_run_and_written_again(lake, statement):
    change(lake, statement)
    assert not is_right(lake)
    report = materialize(shop(), lake)
    wrong = 5 if statement == f"DELETE FROM {TABLE}" else 1
    assert {view: len(users) for view, users in report.repaired.items()} == {VIEW: wrong}
    assert f"looked at 10 of 10 rows: {wrong} were not as written" in str(report)
    assert is_right(lake)
    assert str(materialize(shop(), lake)) == "looked at 10 of 10 rows: all as written"


def test_large_views_are_looked_at_in_turns_and_all_of_them_on_demand(lake, monkeypatch):
    monkeypatch.setattr("features.store.verify.BUCKET", 1)
    state = read_state(lake, online_module.served_views(shop(), lake)[0], token_of(lake))
    view = online_module.served_views(shop(), lake)[0]
    seen = [verify.verify(lake, view, state, look).looked for look in range(5)]
    assert sum(seen) == 5
    assert max(seen) < 5
    assert verify.verify(lake, view, state, None).looked == 5
    change(lake, f"DELETE FROM {TABLE} WHERE entity_key = {ONE}")
    reports = [materialize(shop(), lake) for _ in range(5)]
    assert sum(len(report.repaired.get(VIEW, [])) for report in reports) == 1
    assert is_right(lake)


def token_of(lake: Lake) -> str:
    return online_module.OnlineWriter(lake, []).mark()[0]


def test_a_store_that_was_restored_is_looked_at_whole_whoever_writes_first(lake, monkeypatch):
    monkeypatch.setattr("features.store.verify.BUCKET", 1)
    database = repository(lake) / "online.db"
    shutil.copy(database, database.with_suffix(".old"))
    first = behavior_rows(shop(), DAY, EVERYONE, 30)
    publish_behavior(lake, DAY, first, behavior_rows(shop(), DAY, EVERYONE, 99, late=5 * HOUR))
    assert materialize(shop(), lake).views[VIEW] == 5
    shutil.move(database.with_suffix(".old"), database)
    assert not is_right(lake)
    vectors = [v for v in online_module.served_views(shop(), lake) if v.name != VIEW]
    assert online_module.write_views(lake, vectors).repaired == {}  # such as a promotion
    report = materialize(shop(), lake)
    assert sorted(report.repaired[VIEW]) == EVERYONE
    assert is_right(lake)
