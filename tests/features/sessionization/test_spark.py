"""Sessions are the same tables on Spark and from the pass over sorted files."""

import datetime as dt
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.sessionization import generate
from contracts.base.errors import FootpathError
from contracts.config.dataset import load_dataset
from contracts.lake.engine import engine_name
from contracts.lake.layout import Lake
from features.sessionization.sessions import stage_sessions
from features.spark import open_spark
from tests.builders.datasets import dataset_like
from tests.builders.events import Event, Midnights, publish_events
from tests.features.spark_engine import HAS_SPARK, Staged, needs_spark, on_spark, rows_of

__all__ = ["on_spark"]

OnSpark = Callable[[Callable[[], Staged]], Staged]
FIRST = dt.date(2026, 1, 1)
NOON = dt.datetime(2026, 1, 2, 12, tzinfo=dt.UTC)


def shop_log() -> list[Event]:
    """Sessions around midnights, ties, missing items and values that floats cannot hold."""
    rng = random.Random(7)
    return [
        Event(
            f"u{rng.randrange(20)}",
            NOON + dt.timedelta(minutes=rng.randrange(8 * 1440), microseconds=rng.randrange(2)),
            f"{n}",  # of one instant 9 comes before 10
            rng.choice(["view", "search", "purchase"]),
            rng.choice([None, "i1", "i2", "i3"]),
            rng.choice([None, 0.1, 0.2, 19.99, float("nan"), float("inf"), 1e300, -3.5]),
        )
        for n in range(3000)
    ]


def bot_log() -> list[Event]:
    """A user without a pause for three days, and one who is up at one midnight and the next."""
    bot = [Event("bot", NOON + dt.timedelta(minutes=20 * n), f"{n:04}") for n in range(216)]
    owl = [Event("owl", NOON + dt.timedelta(hours=12 * n), f"{n:04}") for n in range(6)]
    return bot + owl


@pytest.mark.spark
@pytest.mark.timeout(900)
@needs_spark
def test_sessions_of_a_small_shop_are_the_same_before_and_after_late_events(
    on_spark: OnSpark, tmp_path: Path
) -> None:
    dataset = dataset_like("shop", timezone="Europe/Berlin")
    lake, midnights = Lake(tmp_path / "lake"), Midnights(FIRST, "Europe/Berlin")
    log = shop_log() + bot_log()
    days = publish_events(lake, log, midnights)
    ours = rows_of(stage_sessions(dataset, lake, days, tmp_path / "duckdb"))
    theirs = on_spark(lambda: stage_sessions(dataset, lake, days, tmp_path / "spark"))
    assert ours.num_rows > 500
    assert sum(ours["is_cut"].to_pylist()) >= 2
    assert rows_of(theirs).equals(ours)

    late = [Event(f"u{n}", NOON + dt.timedelta(days=2, hours=n), "late") for n in range(20)]
    publish_events(lake, log + late, midnights)
    touched = days[1:6]
    again = rows_of(stage_sessions(dataset, lake, touched, tmp_path / "duckdb2"))
    theirs = on_spark(lambda: stage_sessions(dataset, lake, touched, tmp_path / "spark2"))
    assert sum(again["length"].to_pylist()) > sum(
        rows_of({day: tmp_path / "duckdb" / f"{day}.parquet" for day in touched})[
            "length"
        ].to_pylist()
    )
    assert rows_of(theirs).equals(again)


@pytest.mark.spark
@pytest.mark.timeout(900)
@needs_spark
def test_sessions_of_the_source_are_the_same(on_spark: OnSpark, tmp_path: Path) -> None:
    rng = random.Random(8)
    dataset = dataset_like(
        "shop",
        timezone="Europe/Berlin",
        sessions={"by": "source", "open_minutes": 600},
        events=load_dataset("shop").events.model_dump() | {"session_id": "query"},
    )
    lake, midnights = Lake(tmp_path / "lake"), Midnights(FIRST, "Europe/Berlin")
    log = [
        replace(event, session_id=rng.choice([None, "a-1", "a%2D1", "b", f"s{n // 10}"]))
        for n, event in enumerate(shop_log() + bot_log())
    ]
    days = publish_events(lake, log, midnights)
    ours = rows_of(stage_sessions(dataset, lake, days, tmp_path / "duckdb"))
    theirs = on_spark(lambda: stage_sessions(dataset, lake, days, tmp_path / "spark"))
    assert ours.num_rows > 500
    assert rows_of(theirs).equals(ours)


@pytest.mark.spark
@pytest.mark.long
@pytest.mark.timeout(3600)
@needs_spark
def test_sessions_of_ten_million_events_are_the_same(on_spark: OnSpark, tmp_path: Path) -> None:
    dataset = dataset_like("shop", timezone="UTC")
    lake, days = Lake(tmp_path / "lake"), [FIRST + dt.timedelta(days=n) for n in range(31)]
    generate(lake, 10_000_000, 30)
    ours = rows_of(stage_sessions(dataset, lake, days, tmp_path / "duckdb"))
    theirs = rows_of(on_spark(lambda: stage_sessions(dataset, lake, days, tmp_path / "spark")))
    assert ours.num_rows > 1_000_000
    assert theirs.equals(ours)


def test_an_engine_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOOTPATH_ENGINE", "sparc")
    with pytest.raises(FootpathError, match="FOOTPATH_ENGINE is 'sparc': it must be one of"):
        engine_name()


@pytest.mark.skipif(HAS_SPARK, reason="PySpark is here")
def test_without_pyspark_one_sentence_says_what_to_do() -> None:
    with pytest.raises(FootpathError, match=r"pip install -r requirements-spark\.txt"):
        open_spark()
