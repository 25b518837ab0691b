"""A rebuild adds what is new and keeps what was known; without news it changes nothing."""

import dataclasses
import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file, publish_table
from contracts.lake.schemas import EVENTS
from features.behavior.build import stage_features
from tests.builders.datasets import dataset_like
from tests.builders.events import Event, Midnights, publish_events, publish_sessions

DAY = dt.date(2026, 3, 10)
DAYS = [DAY + dt.timedelta(days=n) for n in range(3)]
NOON = dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC)
ENDS = dt.datetime(2026, 3, 11, tzinfo=dt.UTC)
TABLE = "user_behavior_features"
MIDNIGHTS = Midnights(DAY, "UTC")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def dataset() -> Dataset:
    return dataset_like(
        "shop",
        timezone="UTC",
        actions=["view", "purchase"],
        items=None,
        features={"windows": [1, 2], "delay_minutes": 60},
    )


def publish_log(dataset: Dataset, lake: Lake, log: list[Event]) -> None:
    """Makes exactly this the published log, with its sessions."""
    for day in DAYS:
        publish_table(lake, EVENTS.empty_table(), lake.day("events", day))
    publish_events(lake, log, MIDNIGHTS)
    publish_sessions(dataset, lake, DAYS)


def build(dataset: Dataset, lake: Lake, days: list[dt.date] = DAYS) -> dict[dt.date, pa.Table]:
    """Builds and publishes the features, and returns them."""
    with lake.staging() as folder:
        for day, path in stage_features(dataset, lake, days, folder).items():
            publish_file(path, lake.day(TABLE, day))
    return {day: pq.read_table(lake.day(TABLE, day)) for day in days}


ANN = Event("ann", NOON, "1", "view", "i1", 5.0)
BOB = Event("bob", NOON, "2", "view", "i1", 7.0)
LATE = Event("ann", NOON + dt.timedelta(minutes=1), "3", "purchase", "i2", 20.0)


def test_a_rebuild_without_change_is_what_was_published_to_the_byte(
    dataset: Dataset, lake: Lake
) -> None:
    publish_log(dataset, lake, [ANN, BOB])
    first = build(dataset, lake)
    files = [lake.day(TABLE, day).read_bytes() for day in DAYS]
    assert build(dataset, lake) == first
    assert [lake.day(TABLE, day).read_bytes() for day in DAYS] == files
    assert sum(table.num_rows for table in first.values()) == 6


def test_a_late_event_adds_a_row_for_its_user_alone_and_keeps_the_old_one(
    dataset: Dataset, lake: Lake
) -> None:
    publish_log(dataset, lake, [ANN, BOB])
    first = build(dataset, lake)[DAY].to_pylist()
    publish_log(dataset, lake, [ANN, BOB, LATE])
    before = dt.datetime.now(dt.UTC)
    second = build(dataset, lake)[DAY].to_pylist()
    after = dt.datetime.now(dt.UTC)

    added = [row for row in second if row not in first]
    assert [row for row in second if row in first] == first
    assert [(row["user_id"], row["events_1d"], row["value_sum_1d"]) for row in added] == [
        ("ann", 2, 25.0)
    ]
    assert added[0]["event_timestamp"] == ENDS
    assert before <= added[0]["created"] == added[0]["written_at"] <= after
    assert [row["created"] for row in first] == [ENDS + dt.timedelta(hours=1)] * 2


def test_a_second_correction_is_compared_with_the_first(dataset: Dataset, lake: Lake) -> None:
    publish_log(dataset, lake, [ANN])
    build(dataset, lake)
    publish_log(dataset, lake, [ANN, LATE])
    corrected = build(dataset, lake)
    assert build(dataset, lake) == corrected
    publish_log(dataset, lake, [ANN])
    rows = build(dataset, lake)[DAY].to_pylist()
    assert [row["events_1d"] for row in rows] == [1, 2, 1]
    assert rows[0]["created"] < rows[1]["created"] < rows[2]["created"]


def test_a_user_who_was_not_known_in_time_is_created_now(dataset: Dataset, lake: Lake) -> None:
    publish_log(dataset, lake, [ANN])
    build(dataset, lake)
    publish_log(dataset, lake, [ANN, BOB])
    before = dt.datetime.now(dt.UTC)
    bob = [row for row in build(dataset, lake)[DAY].to_pylist() if row["user_id"] == "bob"]
    assert [row["events_1d"] for row in bob] == [1]
    assert bob[0]["created"] >= before


def test_a_user_who_vanishes_gets_counts_of_zero_once_and_nothing_else(
    dataset: Dataset, lake: Lake
) -> None:
    publish_log(dataset, lake, [ANN, BOB])
    build(dataset, lake)
    publish_log(dataset, lake, [ANN])
    built = build(dataset, lake)
    bob = [row for row in built[DAY].to_pylist() if row["user_id"] == "bob"]
    assert [(row["events_1d"], row["value_sum_2d"]) for row in bob] == [(1, 7.0), (0, 0.0)]
    assert bob[0]["created"] < bob[1]["created"]
    assert [row["value_mean_2d"] for row in bob] == [7.0, None]
    assert [row["hours_since_last_event"] for row in bob] == [12, None]
    assert build(dataset, lake) == built


def test_what_becomes_known_or_unknown_is_a_revision_though_no_count_changes(lake: Lake) -> None:
    declared = [{"kind": "value", "stats": ["mean"]}]
    dataset = dataset_like(
        "shop",
        timezone="UTC",
        items=None,
        features={"windows": [1], "standard": False, "declared": declared},
    )
    for value in (None, 5.0, None):
        publish_log(dataset, lake, [dataclasses.replace(ANN, value=value)])
        built = build(dataset, lake)
        assert build(dataset, lake) == built
    rows = built[DAY].to_pylist()
    assert [row["value_mean_1d"] for row in rows] == [None, 5.0, None]
    assert rows[0]["created"] < rows[1]["created"] < rows[2]["created"]


def test_a_row_that_was_zero_anyway_is_not_repeated_for_a_user_who_vanishes(
    dataset: Dataset, lake: Lake
) -> None:
    publish_log(dataset, lake, [ANN, BOB])
    build(dataset, lake)
    publish_log(dataset, lake, [ANN])
    zeros = build(dataset, lake)[DAYS[2]].to_pylist()
    assert [(row["user_id"], row["events_2d"]) for row in zeros] == [("ann", 0), ("bob", 0)]


def test_a_correction_is_created_after_what_it_corrects_even_ahead_of_the_clock(
    lake: Lake,
) -> None:
    years = 60 * 24 * 365 * 20  # a delay that makes the first row known in the far future
    dataset = dataset_like(
        "shop", timezone="UTC", items=None, features={"windows": [1], "delay_minutes": years}
    )
    publish_log(dataset, lake, [ANN])
    build(dataset, lake)
    publish_log(dataset, lake, [ANN, LATE])
    first, second = build(dataset, lake)[DAY].to_pylist()
    assert (first["events_1d"], second["events_1d"]) == (1, 2)
    assert second["created"] - first["created"] == dt.timedelta(microseconds=1)


def test_a_day_that_was_not_published_is_built_as_if_in_time_beside_one_that_was(
    dataset: Dataset, lake: Lake
) -> None:
    publish_log(dataset, lake, [ANN])
    build(dataset, lake, DAYS[:1])
    publish_log(dataset, lake, [ANN, LATE])
    built = build(dataset, lake, DAYS[:2])
    assert built[DAYS[0]].num_rows == 2
    assert built[DAYS[1]]["created"].to_pylist() == [ENDS + dt.timedelta(days=1, hours=1)]
