"""A list of features changes and no published row does: new columns are null in the old ones."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from features.behavior.build import feature_fields, feature_schema
from features.behavior.columns import TABLE, widen
from features.provenance import read_inputs
from tests.builders.datasets import dataset_like
from tests.features.behavior.test_revisions import (
    ANN,
    BOB,
    DAY,
    DAYS,
    LATE,
    build,
    publish_log,
)

VIEWS = {"kind": "count", "action": "view"}
SUMS = {"kind": "value", "stats": ["sum"]}
DAYS_SINCE = {"kind": "recency", "of": ["event"]}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def declaring(*declared: dict, **more: object) -> Dataset:
    """A data set with just these features, over one and two days."""
    section = {"windows": [1, 2], "standard": False, "declared": list(declared)}
    return dataset_like(
        "shop",
        timezone="UTC",
        actions=["view", "purchase"],
        items=None,
        features=section | more,
    )


def rows_of(table: pa.Table, *names: str) -> list[tuple]:
    return [tuple(row[name] for name in names) for row in table.to_pylist()]


def test_a_new_feature_is_a_revision_and_null_in_the_rows_of_before(lake: Lake):
    publish_log(declaring(VIEWS), lake, [ANN, BOB])
    before = build(declaring(VIEWS), lake, [DAY])[DAY]
    started = dt.datetime.now(dt.UTC)
    after = build(declaring(VIEWS, SUMS), lake, [DAY])[DAY]
    assert rows_of(after, "user_id", "view_1d", "value_sum_1d") == [
        ("ann", 1, None),
        ("ann", 1, 5.0),
        ("bob", 1, None),
        ("bob", 1, 7.0),
    ]
    old = after.filter(pc.less(after["created"], started))
    assert old.select(before.column_names).cast(before.schema) == before
    assert min(after["created"].to_pylist()[1::2]) >= started


def test_what_is_built_again_under_the_same_list_stays_to_the_byte(lake: Lake):
    publish_log(declaring(VIEWS), lake, [ANN, BOB])
    for dataset in (declaring(VIEWS, SUMS), declaring(SUMS, DAYS_SINCE)):
        build(dataset, lake, DAYS[:2])
        files = [lake.day(TABLE, day).read_bytes() for day in DAYS[:2]]
        build(dataset, lake, DAYS[1:2])
        build(dataset, lake, DAYS[:2])
        assert [lake.day(TABLE, day).read_bytes() for day in DAYS[:2]] == files


def test_a_new_feature_without_a_value_adds_no_row(lake: Lake):
    publish_log(declaring(VIEWS), lake, [ANN])
    build(declaring(VIEWS), lake, [DAY])
    purchases = {"kind": "value", "action": "purchase", "stats": ["max"]}
    built = build(declaring(VIEWS, purchases), lake, [DAY])[DAY]
    assert rows_of(built, "view_1d", "purchase_value_max_1d") == [(1, None)]


def test_a_removed_feature_stays_in_the_rows_of_before_and_is_null_in_new_ones(lake: Lake):
    publish_log(declaring(VIEWS, SUMS), lake, [ANN, BOB])
    build(declaring(VIEWS, SUMS), lake, DAYS[:2])
    publish_log(declaring(VIEWS), lake, [ANN, BOB, LATE])
    built = build(declaring(SUMS), lake)
    assert rows_of(built[DAY], "user_id", "value_sum_1d", "view_1d") == [
        ("ann", 5.0, 1),
        ("ann", 25.0, None),
        ("bob", 7.0, 1),  # nothing is computed anew that differs
    ]
    # A day that nobody had built has the column too: Feast reads what the first object has.
    assert rows_of(built[DAYS[2]], "user_id", "value_sum_2d", "view_2d") == [
        ("ann", 0.0, None),
        ("bob", 0.0, None),
    ]


def test_a_user_who_vanishes_has_nothing_in_what_was_removed(lake: Lake):
    publish_log(declaring(VIEWS, SUMS), lake, [ANN, BOB])
    build(declaring(VIEWS, SUMS), lake, [DAY])
    publish_log(declaring(VIEWS, SUMS), lake, [ANN])
    built = build(declaring(SUMS), lake, [DAY])[DAY]
    bob = [row[1:] for row in rows_of(built, "user_id", "value_sum_1d", "view_1d") if "bob" in row]
    assert bob == [(7.0, 1), (0.0, None)]
    assert build(declaring(SUMS), lake, [DAY])[DAY] == built


def test_a_feature_that_comes_back_goes_on_from_the_rows_that_have_it(lake: Lake):
    publish_log(declaring(VIEWS, SUMS), lake, [ANN])
    build(declaring(VIEWS, SUMS), lake, [DAY])
    build(declaring(SUMS), lake, [DAY])
    assert build(declaring(VIEWS, SUMS), lake, [DAY])[DAY].num_rows == 1
    publish_log(declaring(SUMS), lake, [ANN, LATE])
    build(declaring(SUMS), lake, [DAY])
    built = build(declaring(VIEWS, SUMS), lake, [DAY])[DAY]
    assert rows_of(built, "value_sum_1d", "view_1d") == [(5.0, 1), (25.0, None), (25.0, 1)]


def test_a_feature_that_means_something_else_is_a_revision_of_its_column(lake: Lake):
    capped = DAYS_SINCE | {"cap_days": 1}
    publish_log(declaring(DAYS_SINCE), lake, [ANN])
    build(declaring(DAYS_SINCE), lake, DAYS[:2])
    built = build(declaring(capped), lake, DAYS[:2])
    assert rows_of(built[DAY], "days_since_last_event") == [(0.5,)]
    assert rows_of(built[DAYS[1]], "days_since_last_event") == [(1.5,), (1.0,)]


def test_a_count_may_be_null_only_where_rows_of_before_lack_it(lake: Lake):
    publish_log(declaring(SUMS), lake, [ANN])
    build(declaring(SUMS), lake, [DAY])
    built = build(declaring(SUMS, VIEWS), lake, [DAY])
    built |= build(declaring(SUMS, VIEWS), lake, DAYS[1:2])
    assert [table.schema.field("view_1d").nullable for table in built.values()] == [True, False]
    assert not any(table.schema.field("value_sum_1d").nullable for table in built.values())


def test_a_feature_of_another_type_is_refused_in_one_sentence(lake: Lake):
    dataset = declaring(VIEWS, SUMS)
    publish_log(dataset, lake, [ANN])
    table = build(dataset, lake, [DAY])[DAY]
    place = table.schema.get_field_index("view_1d")
    text = table.set_column(place, "view_1d", pa.array(["1"] * table.num_rows))
    publish_table(lake, text, lake.day(TABLE, DAY))
    before = lake.day(TABLE, DAY).read_bytes()
    said = "'view_1d' would be int64, and .*03-10.parquet holds it as string: .* another name$"
    with pytest.raises(FootpathError, match=said):
        build(dataset, lake, [DAY])
    build(declaring(SUMS), lake, [DAY])  # nothing is wrong with the others
    assert lake.day(TABLE, DAY).read_bytes() != before


def test_days_are_widened_by_columns_of_nulls_alone(lake: Lake):
    publish_log(declaring(VIEWS), lake, [ANN, BOB])
    before = build(declaring(VIEWS), lake)
    wide = feature_schema(feature_fields(declaring(VIEWS, SUMS)))
    inputs = [read_inputs(lake.day(TABLE, day)) for day in DAYS]
    build(declaring(VIEWS, SUMS), lake, DAYS[1:2])
    assert widen(lake, wide) == 2
    assert widen(lake, wide) == 0
    for day in (DAYS[0], DAYS[2]):
        found = pq.read_table(lake.day(TABLE, day))
        assert found.select(before[day].column_names) == before[day]
        assert found["value_sum_1d"].null_count == found.num_rows
    assert read_inputs(lake.day(TABLE, DAY)) == inputs[0]
    assert build(declaring(VIEWS, SUMS), lake, DAYS[:1])[DAY].num_rows == 4


def test_a_day_that_is_published_while_it_is_widened_is_left_alone(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
):
    publish_log(declaring(VIEWS), lake, [ANN])
    build(declaring(VIEWS), lake)
    wide = feature_schema(feature_fields(declaring(VIEWS, SUMS)))
    plain = pq.ParquetFile.read_row_group

    def meanwhile(file: pq.ParquetFile, number: int) -> pa.Table:
        build(declaring(VIEWS, SUMS), lake, DAYS[:1])
        return plain(file, number)

    with monkeypatch.context() as patched:
        patched.setattr(pq.ParquetFile, "read_row_group", meanwhile)
        widen(lake, wide)
    assert rows_of(pq.read_table(lake.day(TABLE, DAY)), "value_sum_1d") == [(None,), (5.0,)]
