"""Head features through Feast: what was known when the as-of day's row was, and nothing later."""

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from contracts.lake.schemas import FEATURES, LABELS, VIEW
from features.behavior.meanings import feature_meanings
from features.learning import head_features
from features.learning.head_features import (
    known_at,
    not_built,
    write_day_features,
    write_head_features,
)
from features.provenance import footer
from tests.builders.datasets import shop
from tests.builders.store import DAY, behavior_rows, midnight, publish_behavior

ONE = dt.timedelta(days=1)
RECENCY = "hours_since_last_event"


def _without(rows: pa.Table, name: str) -> pa.Table:
    """Returns the rows with nothing in one column."""
    place = rows.schema.get_field_index(name)
    return rows.set_column(place, name, pa.nulls(len(rows), pa.float64()))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Three days of features; the as-of day was corrected later, and the next day is there too."""
    dataset, lake = shop(), Lake(tmp_path_factory.mktemp("home") / "lake" / "shop")
    users = ["u0", "u1", "u2"]
    publish_behavior(lake, DAY - ONE, behavior_rows(dataset, DAY - ONE, users, 10))
    publish_behavior(
        lake,
        DAY,
        _without(behavior_rows(dataset, DAY, users[:2], 100), RECENCY),
        # Known five hours after the day's end, when the model had been asked already.
        behavior_rows(dataset, DAY, users[:1], 5000, late=dt.timedelta(hours=5)),
    )
    publish_behavior(lake, DAY + ONE, behavior_rows(dataset, DAY + ONE, [*users, "u4"], 9000))
    instant = midnight(dataset, DAY)
    rows = [
        {"user_id": user, "as_of": at, "label_end": at, "task": "t", "value": 1.0, "split": "train"}
        for user, at in [
            ("u0", instant),
            ("u1", instant),
            ("u2", instant),
            ("u4", instant),
            ("u5", instant + dt.timedelta(hours=30)),  # an example with an end of its own
        ]
    ]
    publish_table(lake, pa.Table.from_pylist(rows, LABELS), lake.day("labels", DAY))
    report = write_head_features(dataset, lake, DAY)
    return report, pq.read_table(report.path)


def test_the_head_sees_what_was_known_and_nothing_of_what_came_later(written):
    report, table = written
    events = dict(zip(table["user_id"].to_pylist(), table["events_7d"].to_pylist(), strict=True))
    assert events["u0"] == 100  # not the correction, nor the next day
    assert events["u1"] == 101
    assert events["u2"] == 12  # without a row of the as-of day: the newest before it
    assert events["u4"] is None  # first seen after the as-of
    assert "u5" not in events
    assert (report.users, report.known) == (4, 3)


def test_what_is_null_in_the_store_is_null_for_the_head_of_a_user_who_is_known(written):
    _, table = written
    found = dict(zip(table["user_id"].to_pylist(), table[RECENCY].to_pylist(), strict=True))
    assert (found["u0"], found["u1"]) == (None, None)
    assert found["u2"] is not None


def test_only_numbers_are_written(written):
    report, table = written
    assert all(kind == pa.float64() for kind in table.schema.types[1:])
    assert report.columns == table.num_columns - 1 > 20


def test_a_stored_head_sees_the_newest_rows_of_the_same_columns(written, tmp_path, monkeypatch):
    report, fitted_on = written
    lake = Lake(report.path.parent.parent)
    view = fitted_on.schema.metadata[VIEW].decode()
    monkeypatch.setattr(head_features, "BATCH", 2)
    users, path = ["u0", "u1", "u2", "u4"], tmp_path / "day.parquet"
    write_day_features(shop(), lake, view, DAY, users, path)
    table = pq.read_table(path)
    assert table.column_names == fitted_on.column_names
    assert table["user_id"].to_pylist() == users
    # As corrected since, but of no later day.
    assert table["events_7d"].to_pylist() == [5000, 101, 12, None]


def test_what_a_day_was_not_built_with_is_told(written):
    report, fitted_on = written
    lake = Lake(report.path.parent.parent)
    view = fitted_on.schema.metadata[VIEW].decode()
    assert not_built(lake, view, DAY) == []  # it does not say
    meanings = feature_meanings(shop())
    for told, missing in (
        (meanings, []),
        (meanings | {"events_7d": "another"}, ["events_7d"]),
        ({k: v for k, v in meanings.items() if k != RECENCY}, [RECENCY]),
    ):
        rows = pq.read_table(lake.day("user_behavior_features", DAY))
        publish_table(
            lake,
            rows.replace_schema_metadata(footer({FEATURES: told})),
            lake.day("user_behavior_features", DAY),
        )
        assert not_built(lake, view, DAY) == missing
    assert not_built(lake, view, DAY - 9 * ONE) == [view]
    assert not_built(lake, "user_behavior_features_v9", DAY) == ["user_behavior_features_v9"]


def test_a_delay_that_reaches_the_next_midnight_is_not_waited_for():
    dataset = shop()
    assert known_at(dataset, DAY) == midnight(dataset, DAY) + dt.timedelta(minutes=60)
    slow = dataset.features.model_copy(update={"delay_minutes": 24 * 60})
    dataset = dataset.model_copy(update={"features": slow})
    assert known_at(dataset, DAY) == midnight(dataset, DAY)


def test_what_is_missing_is_named(tmp_path):
    dataset, lake = shop(), Lake(tmp_path / "lake" / "shop")
    with pytest.raises(FootpathError, match="materialize labels for 2026-01-10 first"):
        write_head_features(dataset, lake, DAY)
    publish_table(lake, pa.Table.from_pylist([], LABELS), lake.day("labels", DAY))
    with pytest.raises(FootpathError, match="materialize user_behavior_features for 2026-01-10"):
        write_head_features(dataset, lake, DAY)
