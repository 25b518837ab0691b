"""A file may be named by the hours since an origin, and may lack columns that are optional."""

import datetime as dt

import pytest
from pydantic import ValidationError

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.config.source import FileTable, Landing
from contracts.lake.layout import Lake
from features.ingestion.landing import land
from features.ingestion.listing import arrival_days, find_arrivals
from features.ingestion.manifest import mapping_hash
from tests.builders.datasets import shop_like
from tests.builders.landing import landed, linked, row

COLUMNS = shop_like().landing.columns
CSV = {"url": "*.csv", "format": "csv", "columns": {"a": "VARCHAR", "b": "BIGINT"}}


def hourly(**changes: object) -> Dataset:
    landing = {
        "url": "events/hour_{hours}.jsonl.gz",
        "format": "jsonl",
        "columns": COLUMNS,
        "origin": "2026-01-04T22:00:00+00:00",
    }
    return shop_like(landing=landing | changes)


def test_hours_since_an_origin_give_arrival_instant_and_local_day(source):
    for hours in ("0", "001", "24", "25"):
        source.write(f"hour_{hours}", row(hours, "2026-01-05T10:00:00Z"))
    source.write("hour_7_old", row("x", "2026-01-05T10:00:00Z"))  # not a number: no landing file
    found = find_arrivals(hourly(), None)
    origin = dt.datetime(2026, 1, 4, 22, tzinfo=dt.UTC)
    assert {a.file.path: a.instant for a in found} == {
        f"events/hour_{hours}.jsonl.gz": origin + dt.timedelta(hours=int(hours))
        for hours in ("0", "001", "24", "25")
    }
    # Berlin is an hour ahead of UTC: its days begin at 23:00.
    assert arrival_days(hourly()) == [dt.date(2026, 1, day) for day in (4, 5, 6)]
    report = land(hourly(), Lake.of("shop"), [dt.date(2026, 1, 5)])
    assert [file.path for file in report.files] == [
        "events/hour_001.jsonl.gz",
        "events/hour_24.jsonl.gz",
    ]
    assert landed(Lake.of("shop")) == {"2026-01-05": ["001", "24"]}


def test_a_wildcard_may_follow_digits_of_any_number(source):
    source.write("hour_7_part1", row("a", "2026-01-05T10:00:00Z"))
    found = find_arrivals(hourly(url="events/hour_{hours}*.jsonl.gz"), None)
    assert [arrival.file.path for arrival in found] == ["events/hour_7_part1.jsonl.gz"]


def test_hours_beyond_the_calendar_are_told(source):
    source.write("hour_999999999", row("a", "2026-01-05T10:00:00Z"))
    (arrival,) = find_arrivals(hourly(), None)
    assert "hour_999999999.jsonl.gz has an impossible date" in arrival.file.fault


def test_days_without_an_hour_are_told_or_allowed(source):
    source.write("hour_1", row("a", "2026-01-05T10:00:00Z"))
    with pytest.raises(FootpathError, match="no landing file for 2026-01-09"):
        find_arrivals(hourly(), [dt.date(2026, 1, 9)])
    quiet = hourly().model_copy(
        update={"quality": shop_like(quality={"allow_empty_days": True}).quality}
    )
    assert find_arrivals(quiet, [dt.date(2026, 1, 9)]) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"origin": None}, "need each other"),
        ({"url": "{year}-{month}-{day}.gz"}, "need each other"),
        ({"url": "{hours}-{day}.gz"}, "no other field"),
        ({"origin": "2026-01-04T22:00:00"}, "timezone"),
    ],
)
def test_hours_and_origin_are_checked(changes, sentence):
    with pytest.raises(ValidationError, match=sentence):
        Landing.model_validate(hourly().landing.model_dump() | changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"optional": ["c"]}, r"optional has \['c'\], which columns does not declare"),
        ({"optional": ["a"], "csv": {"header": False}}, "optional needs a header"),
    ],
)
def test_optional_columns_are_checked(changes, sentence):
    with pytest.raises(ValidationError, match=sentence):
        FileTable.model_validate(CSV | changes)


def test_the_mapping_of_files_changes_with_what_is_optional(source):
    plain, lenient = hourly(), hourly(optional=["price"])
    assert mapping_hash(plain) != mapping_hash(lenient)


@pytest.mark.parametrize(("field", "times"), [("epoch_ms", 1000), ("epoch_s", 1)])
def test_an_instant_since_1970_in_the_path_is_the_arrival(tmp_path, lake_home, field, times):
    linked(tmp_path / "source")
    first = dt.datetime(2026, 1, 5, 23, 30, tzinfo=dt.UTC)  # in Berlin, the next day
    for hours in (0, 24):
        instant = first + dt.timedelta(hours=hours)
        folder = tmp_path / "source/logs/source" / str(int(instant.timestamp()) * times)
        folder.mkdir(parents=True)
        (folder / "1.gz").write_bytes(b"")
    (tmp_path / "source/logs/source/latest").mkdir()
    (tmp_path / "source/logs/source/latest/1.gz").write_bytes(b"")
    url = f"logs/*/{{{field}}}/*.gz"
    shop = shop_like(landing=shop_like().landing.model_dump() | {"url": url})
    assert arrival_days(shop) == [dt.date(2026, 1, 6), dt.date(2026, 1, 7)]
    (found,) = find_arrivals(shop, [dt.date(2026, 1, 6)])
    assert found.instant == first
