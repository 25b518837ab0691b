"""Sessions are the same tables on Spark and from the pass over sorted files."""

import datetime as dt
import importlib.util
import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.sessionization import generate
from contracts.engine import engine_name
from contracts.errors import FootpathError
from contracts.lake import Lake
from features.sessionization.sessions import stage_sessions
from features.spark import open_spark
from tests.features.event_log import Event, Midnights, dataset_like, publish_events

HAS_SPARK = importlib.util.find_spec("pyspark") is not None and shutil.which("java") is not None
needs_spark = pytest.mark.skipif(
    not HAS_SPARK, reason="PySpark and Java are not both here: see `make test-spark`"
)
FIRST = dt.date(2026, 1, 1)


@pytest.fixture
def spark(lake_home: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Two cores, and few partitions: the tables here are small."""
    monkeypatch.setenv(
        "PYSPARK_SUBMIT_ARGS",
        "--master local[2] --conf spark.sql.shuffle.partitions=8 pyspark-shell",
    )
    return monkeypatch


def rows_of(staged: dict[dt.date, Path]) -> pa.Table:
    """Returns the rows of all days, in order of day and as they lie in the files."""
    return pa.concat_tables([pq.read_table(staged[day]) for day in sorted(staged)])


def shop_log() -> list[Event]:
    """Sessions around midnights, ties, missing items and values that floats cannot hold."""
    rng, noon = random.Random(7), dt.datetime(2026, 1, 2, 12, tzinfo=dt.UTC)
    return [
        Event(
            f"u{rng.randrange(20)}",
            noon + dt.timedelta(minutes=rng.randrange(8 * 1440), microseconds=rng.randrange(2)),
            f"{n:04}",
            rng.choice(["view", "search", "purchase"]),
            rng.choice([None, "i1", "i2", "i3"]),
            rng.choice([None, 0.1, 0.2, 19.99, float("nan"), float("inf"), 1e300, -3.5]),
        )
        for n in range(3000)
    ]


@pytest.mark.spark
@needs_spark
def test_sessions_of_a_small_shop_are_the_same(spark: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dataset = dataset_like("shop", timezone="Europe/Berlin")
    lake, midnights = Lake(tmp_path / "lake"), Midnights(FIRST, "Europe/Berlin")
    days = publish_events(lake, shop_log(), midnights)
    ours = rows_of(stage_sessions(dataset, lake, days, tmp_path / "duckdb"))
    spark.setenv("FOOTPATH_ENGINE", "spark")
    theirs = rows_of(stage_sessions(dataset, lake, days, tmp_path / "spark"))
    assert ours.num_rows > 500
    assert theirs.equals(ours)


@pytest.mark.spark
@pytest.mark.long
@pytest.mark.timeout(3600)
@needs_spark
def test_sessions_of_ten_million_events_are_the_same(
    spark: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dataset = dataset_like("shop", timezone="UTC")
    lake, days = Lake(tmp_path / "lake"), [FIRST + dt.timedelta(days=n) for n in range(31)]
    generate(lake, 10_000_000, 30)
    ours = rows_of(stage_sessions(dataset, lake, days, tmp_path / "duckdb"))
    spark.setenv("FOOTPATH_ENGINE", "spark")
    theirs = rows_of(stage_sessions(dataset, lake, days, tmp_path / "spark"))
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
