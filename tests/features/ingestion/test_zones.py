"""A time with a zone is its instant, or its row is refused with a sentence: never another hour."""

import datetime as dt
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from contracts.lake.layout import Lake
from features.ingestion.landing import land
from tests.builders.datasets import shop_like
from tests.builders.landing import linked, row

# Text -> the hour in UTC, or none where that is not certain.
WINTER, SUMMER = "2026-01-05", "2026-07-05"
HOURS = {
    f"{WINTER} 10:00:00": 10,
    f"{WINTER}T10:00:00Z": 10,
    f"{WINTER} 10:00:00+0130": 8.5,
    f"{WINTER} 10:00:00 UTC": 10,
    f"{WINTER} 10:00:00 gmt": 10,
    f"{SUMMER} 10:00:00 GMT": 10,
    f"{WINTER} 10:00:00 CET": 9,
    f"{SUMMER} 10:00:00 CET": None,
    f"{WINTER} 10:00:00 PST": 18,
    f"{SUMMER} 10:00:00 pst": None,
    f"{SUMMER} 10:00:00 PDT": None,
    f"{SUMMER} 10:00:00 CEST": None,
    f"{SUMMER} 10:00:00 EST": 15,
    f"{SUMMER} 10:00:00 JST": 1,
    f"{WINTER} 10:00:00 BST": None,
    f"{WINTER} 10:00:00 IST": None,
    f"{WINTER} 10:00:00 CST": None,
    f"{WINTER} 10:00:00 XYZ": None,
    f"{WINTER} 10:00:00 PM": None,
    f"{SUMMER} 10:00:00 Europe/Berlin": 8,
    f"{WINTER} 10:00:00 Europe/Berlin": 9,
    f"{WINTER} 10:00:00 America/St_Johns": 13.5,
    f"{SUMMER} 10:00:00 PST8PDT": 17,
    f"{WINTER} 10:00:00 UTC+2": 8,
}


def land_times(folder: Path, lake: Lake, texts: list[str], kind: str, timestamp: str):
    """The hours of the events by text, and the reasons of those that were refused."""
    source = linked(folder)
    lines = (row(text, text, price=n) for n, text in enumerate(texts))
    (source / "x.jsonl").write_text("\n".join(lines))
    columns = shop_like().landing.columns | {"ts": kind}
    shop = shop_like(
        timezone="UTC",
        partitions={"start": "2026-01-01", "end": "2026-12-31"},
        landing={"url": "*.jsonl", "format": "jsonl", "columns": columns},
        events=shop_like().events.model_dump() | {"timestamp": timestamp},
        quality={"max_refused_share": 1},
    )
    land(shop, lake, None)
    hours = {}
    for path in lake.table("landing").glob("fragments/*/*.parquet"):
        for event in pq.read_table(path).to_pylist():
            time = event["timestamp"].astimezone(dt.UTC).time()
            hours[event["event_id"]] = time.hour + time.minute / 60
    refused = {
        texts[event["source_line"] - 1]: event["detail"]
        for path in (lake.table("quarantine") / "landing").glob("*.parquet")
        for event in pq.read_table(path).to_pylist()
    }
    assert len(hours) + len(refused) == len(texts)
    return hours, refused


@pytest.mark.parametrize(
    ("kind", "timestamp"),
    [
        ("VARCHAR", "TRY_CAST(ts AS TIMESTAMPTZ)"),
        ("VARCHAR", 'coalesce(TRY_CAST("ts" AS TIMESTAMP WITH TIME ZONE), NULL)'),
        ("TIMESTAMPTZ", "ts"),
    ],
)
def test_a_time_with_a_zone_is_its_instant_or_refused(tmp_path, lake, kind, timestamp):
    hours, refused = land_times(tmp_path, lake, list(HOURS), kind, timestamp)
    assert hours == {text: hour for text, hour in HOURS.items() if hour is not None}
    for text, sentence in refused.items():
        assert sentence == (
            f"ts is {text}, which is not TIMESTAMP WITH TIME ZONE: say its zone as an offset, as "
            "in +01:00, or as Area/City"
        )


@pytest.mark.parametrize(
    ("kind", "timestamp"),
    [
        ("VARCHAR", "TRY_CAST(ts AS TIMESTAMP) AT TIME ZONE 'UTC'"),
        ("VARCHAR", "ts::timestamp AT TIME ZONE 'UTC'"),
        ("TIMESTAMP", "ts AT TIME ZONE 'UTC'"),
    ],
)
def test_a_zone_that_a_plain_timestamp_would_drop_refuses_the_row(tmp_path, lake, kind, timestamp):
    hours, refused = land_times(tmp_path, lake, list(HOURS), kind, timestamp)
    assert set(hours.values()) == {10}
    kept = {text for text, hour in HOURS.items() if hour == 10}
    assert set(hours) == kept
    assert refused[f"{WINTER} 10:00:00 PM"] == (
        f"ts is {WINTER} 10:00:00 PM, which is not TIMESTAMP"
    )


def test_an_expression_that_reads_a_zone_itself_is_left_alone(tmp_path, lake):
    texts = [f"{SUMMER} 10:00:00 PDT", f"{SUMMER} 10:00:00 PST", "1783245600", "soon PM"]
    timestamp = (
        "coalesce(TRY_CAST(replace(replace(ts, ' PDT', '-07:00'), ' PST', '-08:00') AS "
        "TIMESTAMPTZ), to_timestamp(TRY_CAST(ts AS BIGINT)), TRY_CAST(ts AS TIMESTAMPTZ))"
    )
    hours, refused = land_times(tmp_path, lake, texts, "VARCHAR", timestamp)
    assert hours == {texts[0]: 17, texts[2]: 10}
    assert list(refused) == [texts[1], texts[3]]
