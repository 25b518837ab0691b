"""The online store holds the newest row of every user, in Feast's own bytes."""

import datetime as dt
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from features.store import apply_registry, check_online, materialize, promote, repository
from features.store.online_writer import OnlineWriter
from features.store.repository import open_store
from features.store.similar import similar_users
from tests.builders.datasets import shop
from tests.builders.store import (
    DAY,
    HOUR,
    behavior_rows,
    midnight,
    publish_behavior,
    publish_embeddings,
    publish_model,
    small_lake,
)

MODEL = "ptum_bert4rec_v1"
EDGES = [0.0, -0.0, 1e-5, 1e16, 1e22, 0.1, 123456789.0, float("inf"), float("nan"), 5e-324, None]
TIMES = "event_ts, created_ts"


def tables(database: Path) -> dict[str, list]:
    """Returns every row of every table of Feast's in a SQLite online store."""
    connection = sqlite3.connect(database)
    names = [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        if name.startswith("shop_user_")
    ]
    query = 'SELECT * FROM "{}" ORDER BY entity_key, feature_name'
    rows = {name: connection.execute(query.format(name)).fetchall() for name in names}
    connection.close()
    return rows


def online(lake: Lake, feature: str, users: list[str]) -> list:
    """Reads one behavior feature with Feast."""
    store = open_store(lake)
    rows = [{"user_id": user} for user in users]
    return store.get_online_features([f"user_behavior_features_v1:{feature}"], rows).to_dict()[
        feature
    ]


@pytest.mark.parametrize("above", ["a[b]*c", "a\\b{c}'d $e %20"])
def test_a_store_may_lie_below_any_folder(tmp_path: Path, monkeypatch, above: str):
    monkeypatch.setenv("FOOTPATH_HOME", str(tmp_path / above))
    lake = small_lake(tmp_path / above)
    promote(shop(), lake, MODEL)  # which brings its rows online
    assert materialize(shop(), lake).of == 10
    assert check_online(shop(), lake).equal == 10  # read offline too
    assert [user for user, _ in similar_users(lake, "u0", k=4)] == ["u1", "u2", "u3", "u4"]


def first_feature(lake: Lake, kind: str) -> str:
    from features.behavior.build import feature_fields

    return next(field.name for field in feature_fields(shop()) if field.kind == kind)


def edge_case_lake(home: Path) -> Lake:
    """Returns a lake whose rows hold every value that is hard to write, and 500 random users."""
    dataset, lake = shop(), Lake(home / "lake" / "shop")
    users = [f"user {k} – ü" for k in range(500)]
    random = np.random.default_rng(0)
    table = behavior_rows(dataset, DAY, users, 0)
    for index, field in enumerate(table.schema):
        if field.type == pa.float64():
            values = EDGES + random.gamma(1, 10, len(users) - len(EDGES)).tolist()
            table = table.set_column(index, field, pa.array(values, pa.float64()))
        elif field.type == pa.int64():
            values = random.integers(-(2**62), 2**62, len(users))
            table = table.set_column(index, field, pa.array(values))
        elif field.type == pa.string() and field.name != "user_id":
            values = [None if k % 3 else f"category {k} – ü" for k in range(len(users))]
            table = table.set_column(index, field, pa.array(values, pa.string()))
    publish_behavior(lake, DAY, table)
    publish_model(lake, MODEL)
    vectors = random.standard_normal((len(users), 64)).astype(np.float32)
    publish_embeddings(lake, dataset, MODEL, DAY, users, vectors)
    return lake


def test_sqlite_holds_byte_for_byte_what_feast_itself_would_write(lake_home: Path):
    dataset, lake = shop(), edge_case_lake(lake_home)
    apply_registry(dataset, lake)
    store = open_store(lake)
    start = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
    store.materialize(start, midnight(dataset, DAY))  # Feast's own conversion and writer
    stock = tables(repository(lake) / "online.db")
    (repository(lake) / "online.db").unlink()

    report = materialize(dataset, lake)

    assert set(report.views.values()) == {500}
    assert tables(repository(lake) / "online.db") == stock
    assert sum(map(len, stock.values())) > 500


def test_a_second_run_writes_nothing(lake_home: Path):
    dataset, lake = shop(), small_lake(lake_home)
    apply_registry(dataset, lake)
    assert set(materialize(dataset, lake).views.values()) == {5}
    assert materialize(dataset, lake).rows == 0


def test_progress_counts_up_to_the_rows_of_all_views(lake_home: Path):
    dataset, lake = shop(), small_lake(lake_home)
    apply_registry(dataset, lake)
    calls = []
    materialize(dataset, lake, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(10, 10)]


def test_a_correction_with_an_equal_event_timestamp_reaches_the_store(lake_home: Path):
    dataset, lake = shop(), small_lake(lake_home)
    apply_registry(dataset, lake)
    materialize(dataset, lake)
    corrected = behavior_rows(dataset, DAY, ["u3"], 99, late=5 * HOUR)
    everyone = behavior_rows(dataset, DAY, [f"u{k}" for k in range(5)], 30)
    publish_behavior(lake, DAY, everyone, corrected)

    report = materialize(dataset, lake)

    assert report.views["user_behavior_features_v1"] == 1
    assert online(lake, first_feature(lake, "int64"), ["u2", "u3"]) == [32, 99]


def test_what_becomes_unknown_reaches_the_store_and_so_does_what_becomes_known(lake_home: Path):
    dataset, lake = shop(), small_lake(lake_home)
    apply_registry(dataset, lake)
    materialize(dataset, lake)
    names = [first_feature(lake, "float64"), first_feature(lake, "string")]
    revisions = [behavior_rows(dataset, DAY, [f"u{k}" for k in range(5)], 30)]
    known = [online(lake, name, ["u2", "u3"]) for name in names]
    for late, expected in ((5, [None, None]), (6, [99.0, "99"])):
        row = behavior_rows(dataset, DAY, ["u3"], 99, late=late * HOUR)
        for name in names if late == 5 else ():
            place = row.schema.get_field_index(name)
            row = row.set_column(place, name, pa.nulls(1, row.schema.field(name).type))
        publish_behavior(lake, DAY, *revisions, row)
        revisions.append(row)

        assert materialize(dataset, lake).views["user_behavior_features_v1"] == 1

        served = [online(lake, name, ["u2", "u3"]) for name in names]
        assert served == [[before[0], value] for before, value in zip(known, expected, strict=True)]
        check = check_online(dataset, lake)
        assert (check.sampled, check.mismatches) == (10, [])


def test_a_late_old_day_does_not_overwrite_a_newer_row(lake_home: Path):
    dataset, lake = shop(), small_lake(lake_home)
    apply_registry(dataset, lake)
    materialize(dataset, lake)
    old = DAY - dt.timedelta(days=5)
    publish_behavior(lake, old, behavior_rows(dataset, old, ["u1", "u9"], 500, late=99 * HOUR))

    report = materialize(dataset, lake)

    assert report.views["user_behavior_features_v1"] == 1
    assert online(lake, first_feature(lake, "int64"), ["u1", "u9"]) == [31, 501]


def test_a_day_that_was_rebuilt_without_its_corrections_reaches_the_store(lake_home: Path):
    dataset, lake = shop(), small_lake(lake_home)
    everyone = [f"u{k}" for k in range(5)]
    corrected = behavior_rows(dataset, DAY, ["u3"], 99, late=5 * HOUR)
    publish_behavior(lake, DAY, behavior_rows(dataset, DAY, everyone, 30), corrected)
    apply_registry(dataset, lake)
    materialize(dataset, lake)
    rebuilt = behavior_rows(dataset, DAY, everyone, 50, written=9 * HOUR)
    publish_behavior(lake, DAY, rebuilt)
    materialize(dataset, lake)
    check = check_online(dataset, lake)
    assert (check.sampled, check.mismatches) == (10, [])


def test_a_lost_store_is_filled_again(lake_home: Path):
    dataset, lake = shop(), small_lake(lake_home)
    apply_registry(dataset, lake)
    materialize(dataset, lake)
    full = tables(repository(lake) / "online.db")
    (repository(lake) / "online.db").unlink()
    materialize(dataset, lake)
    assert tables(repository(lake) / "online.db") == full


def test_a_run_that_died_before_its_state_was_published_is_repeated(lake_home: Path):
    dataset, lake = shop(), small_lake(lake_home)
    apply_registry(dataset, lake)
    materialize(dataset, lake)
    full = tables(repository(lake) / "online.db")
    shutil.rmtree(repository(lake) / "online")
    assert set(materialize(dataset, lake).views.values()) == {5}
    assert tables(repository(lake) / "online.db") == full


def test_more_rows_than_a_batch_all_arrive(lake_home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("features.store.online.BATCH", 64)
    dataset, lake = shop(), edge_case_lake(lake_home)
    apply_registry(dataset, lake)
    materialize(dataset, lake)
    check = check_online(dataset, lake, sample=500)
    assert (check.sampled, check.equal, check.mismatches) == (1000, 1000, [])


def test_a_feature_that_no_object_has_is_null(lake_home: Path):
    dataset, lake = shop([7, 30]), small_lake(lake_home)
    last = behavior_rows(dataset, DAY, ["u1"], 1).column_names[-1]
    apply_registry(dataset, lake)  # gives the days before their columns, and not the next one
    for back in (2, 1, 0):
        day = DAY - dt.timedelta(days=back)
        narrow = behavior_rows(dataset, day, ["u1"], 1).drop_columns([last])
        publish_behavior(lake, day, narrow)
    assert materialize(dataset, lake).views["user_behavior_features_v1"] == 1
    assert online(lake, last, ["u1"]) == [None]
    assert online(lake, "events_7d", ["u1"]) == [1]


def test_an_older_service_is_kept_up_to_date_beside_the_present_one(lake_home: Path):
    lake = small_lake(lake_home)
    apply_registry(shop([7, 30]), lake)
    materialize(shop([7, 30]), lake)
    dataset = shop([1, 7, 30])
    apply_registry(dataset, lake)
    everyone = behavior_rows(dataset, DAY, [f"u{k}" for k in range(5)], 30)
    corrected = behavior_rows(dataset, DAY, ["u3"], 99, late=5 * HOUR)
    publish_behavior(lake, DAY, everyone, corrected)

    report = materialize(dataset, lake)

    assert report.views["user_behavior_features_v1"] == 1
    assert online(lake, "events_7d", ["u2", "u3"]) == [32, 99]
    assert check_online(dataset, lake).mismatches == []


def test_without_a_registry_materialize_says_what_to_do(lake_home: Path):
    with pytest.raises(FootpathError, match="apply the feature registry first"):
        materialize(shop(), small_lake(lake_home))


def test_the_check_agrees_after_materializing_and_names_what_differs(lake_home: Path):
    dataset, lake = shop(), small_lake(lake_home)
    apply_registry(dataset, lake)
    promote(dataset, lake, MODEL)
    materialize(dataset, lake)
    good = check_online(dataset, lake)
    assert (good.sampled, good.equal, good.mismatches) == (10, 10, [])

    connection = sqlite3.connect(repository(lake) / "online.db")
    table = f"shop_user_embeddings_{MODEL}"
    with connection:
        connection.execute(f"DELETE FROM \"{table}\" WHERE hex(entity_key) LIKE '%7534'")  # "u4"
    connection.close()
    bad = check_online(dataset, lake)
    assert (bad.sampled, bad.equal) == (10, 9)
    assert bad.mismatches[0].startswith(f"embedding_{MODEL} of user 'u4'")


def test_a_store_that_cannot_delete_says_what_to_do(
    lake_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = tmp_path / "online.yaml"
    settings.write_text("type: sqlite\npath: online.db\n")
    monkeypatch.setenv("FOOTPATH_ONLINE_STORE", str(settings))
    lake = small_lake(lake_home)
    apply_registry(shop(), lake)
    with pytest.raises(FootpathError, match="--online-is-done"):
        OnlineWriter(lake, []).delete(["u1"])
