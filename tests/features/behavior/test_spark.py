"""Behavior features are the same tables on Spark and on DuckDB: every kind, and revisions."""

import datetime as dt
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import behavior_features
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file
from features.behavior.build import stage_features
from features.behavior.columns import TABLE
from features.behavior.tables import BEHAVIOR
from tests.builders.events import Event, Midnights
from tests.features.behavior.test_declared import (
    DAYS,
    START,
    publish,
    random_log,
    shop,
)
from tests.features.spark_engine import Staged, assert_same_rows, needs_spark, on_spark, rows_of

__all__ = ["on_spark"]

OnSpark = Callable[[Callable[[], Staged]], Staged]
ZONE = "Europe/Berlin"


@pytest.fixture
def dataset() -> Dataset:
    """Every kind of declared feature, and the standard ones."""
    return shop(ZONE, standard=True)


def two_lakes(dataset: Dataset, folder: Path, log: list[Event]) -> tuple[Lake, Lake]:
    """Publishes a log with its sessions twice: a state that DuckDB made would spare Spark work."""
    ours = Lake(folder / "ours")
    publish(dataset, ours, log)
    shutil.copytree(folder / "ours", folder / "theirs")
    return ours, Lake(folder / "theirs")


def publish_features(lake: Lake, staged: Staged) -> None:
    for day, path in staged.items():
        publish_file(path, lake.day(TABLE, day))


@pytest.mark.spark
@pytest.mark.timeout(900)
@needs_spark
def test_every_kind_in_a_range_and_a_day_alone_are_the_same(
    on_spark: OnSpark, dataset: Dataset, tmp_path: Path
) -> None:
    log = random_log(random.Random(7), Midnights(START, ZONE))
    ours, theirs = two_lakes(dataset, tmp_path, log)
    for days, name in ((DAYS, "range"), (DAYS[3:4], "alone")):
        mine = rows_of(stage_features(dataset, ours, days, tmp_path / "duckdb" / name))
        other = rows_of(
            on_spark(lambda d=days, n=name: stage_features(dataset, theirs, d, tmp_path / n))
        )
        assert mine.num_rows >= 3
        assert_same_rows(mine, other, but=("written_at",))
    for day in ours.days(BEHAVIOR.state):
        mine, other = (rows_of({day: lake.day(BEHAVIOR.state, day)}) for lake in (ours, theirs))
        assert_same_rows(mine, other)


@pytest.mark.spark
@pytest.mark.timeout(900)
@needs_spark
def test_a_late_rebuild_adds_the_same_rows_and_without_news_none(
    on_spark: OnSpark, tmp_path: Path
) -> None:
    declared = [{"kind": "count", "action": "view"}, {"kind": "recency"}, {"kind": "value"}]
    dataset, days = shop(ZONE, declared=declared), DAYS[:4]
    midnights = Midnights(START, ZONE)
    log = random_log(random.Random(3), midnights)
    gone = [event for event in log if event.user_id == "u0"]
    ours, theirs = two_lakes(dataset, tmp_path, log)
    publish_features(ours, stage_features(dataset, ours, days, tmp_path / "a"))
    publish_features(
        theirs, on_spark(lambda: stage_features(dataset, theirs, days, tmp_path / "b"))
    )
    before = rows_of({day: ours.day(TABLE, day) for day in days})

    noon = midnights.starts[midnights.days.index(DAYS[1])] + dt.timedelta(hours=12)
    late = [Event("u1", noon, "late", "view", "i3", 7.0), Event("new", noon, "1", "view")]
    changed = sorted({*late, *log} - set(gone))
    for lake in (ours, theirs):
        publish(dataset, lake, changed)
        emptied = {midnights.day_of(event.timestamp) for event in gone}
        still = {midnights.day_of(event.timestamp) for event in changed}
        for day in emptied - still:
            lake.day("events", day).unlink()
    mine = stage_features(dataset, ours, days, tmp_path / "c")
    other = on_spark(lambda: stage_features(dataset, theirs, days, tmp_path / "d"))
    added = rows_of(mine).num_rows - before.num_rows
    assert added >= 3  # u1 is corrected, `new` comes, u0 goes
    assert_same_rows(rows_of(mine), rows_of(other), but=("created", "written_at"))

    publish_features(theirs, other)
    again = on_spark(lambda: stage_features(dataset, theirs, days, tmp_path / "e"))
    assert rows_of(again).equals(rows_of({day: theirs.day(TABLE, day) for day in days}))

    # Another list: first of one day, so that the next build reads objects of different columns.
    publish_features(ours, mine)
    other_list = shop(ZONE, declared=[*declared[1:], {"kind": "weekend"}])
    for some, name in ((days[1:2], "f"), (days, "g")):
        mine = stage_features(other_list, ours, some, tmp_path / "duckdb" / name)
        other = on_spark(lambda d=some, n=name: stage_features(other_list, theirs, d, tmp_path / n))
        assert_same_rows(rows_of(mine), rows_of(other), but=("created", "written_at"))
        publish_features(ours, mine)
        publish_features(theirs, other)
    published = rows_of({day: ours.day(TABLE, day) for day in days})
    assert published["weekend_share_1d"].null_count < published.num_rows


@pytest.mark.spark
@pytest.mark.long
@pytest.mark.timeout(3600)
@needs_spark
def test_features_of_a_million_events_are_the_same(on_spark: OnSpark, tmp_path: Path) -> None:
    dataset, days = behavior_features.dataset(), behavior_features.all_days()[-30:]
    ours = Lake(tmp_path / "ours")
    behavior_features.prepare(ours, 1_000_000)
    shutil.copytree(tmp_path / "ours", tmp_path / "theirs")
    theirs = Lake(tmp_path / "theirs")
    mine = rows_of(stage_features(dataset, ours, days, tmp_path / "duckdb"))
    other = rows_of(on_spark(lambda: stage_features(dataset, theirs, days, tmp_path / "spark")))
    assert mine.num_rows > 300_000
    assert_same_rows(mine, other, but=("written_at",))
