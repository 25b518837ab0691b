"""Which days are expected: by their files, their deadline, and the clock where it changes."""

import datetime as dt

import pytest

from contracts.config.sources import link_source
from contracts.lake.layout import Lake
from features.ingestion.completeness import complete_at, expected_days, look_at
from features.ingestion.landing import land
from tests.builders.datasets import dataset_like
from tests.builders.landing import Source, row

SPRING, AUTUMN = dt.date(2026, 3, 29), dt.date(2026, 10, 25)  # Berlin loses and gains an hour


def hourly(start: dt.date, **complete: object):
    return dataset_like(
        "shop", partitions={"start": start}, automation={"complete": {"files": 24} | complete}
    )


def deliver(source: Source, first: dt.datetime, hours: int) -> None:
    for n in range(hours):
        hour = first + dt.timedelta(hours=n)
        line = row(f"{hour}", hour.replace(minute=30).isoformat())
        source.write(f"{hour:%Y-%m-%d/%H}", line)


@pytest.mark.parametrize(("day", "hours"), [(SPRING, 23), (AUTUMN, 25)])
def test_a_day_of_a_clock_change_is_complete_with_its_own_hours(lake_home, tmp_path, day, hours):
    source, dataset, lake = Source(tmp_path / "source"), hourly(day), Lake.of("shop")
    midnight = dt.datetime.combine(day, dt.time(), dt.UTC) - dt.timedelta(
        hours=1 if day == SPRING else 2
    )
    deliver(source, midnight, hours - 1)
    ended = midnight + dt.timedelta(hours=hours)
    land(dataset, lake, None)
    found = look_at(dataset, lake, ended).expected
    assert (found.days, list(found.waiting)) == ([], [day])
    assert f"{hours - 1} of {hours} files are there" in found.waiting[day]
    deliver(source, ended - dt.timedelta(hours=1), 1)
    assert look_at(dataset, lake, ended - dt.timedelta(minutes=1)).expected.days == []
    assert look_at(dataset, lake, ended).expected.days == [day]


def test_the_deadline_is_local_and_not_before_the_day_has_ended():
    berlin = hourly(SPRING, at="02:30")  # an hour that the spring day itself lacks
    before = SPRING - dt.timedelta(days=1)
    assert complete_at(berlin, before) == dt.datetime(2026, 3, 29, 1, 30, tzinfo=dt.UTC)
    assert complete_at(berlin, SPRING) == dt.datetime(2026, 3, 30, 0, 30, tzinfo=dt.UTC)
    azores = dataset_like(
        "shop", timezone="Atlantic/Azores", automation={"complete": {"at": "00:00"}}
    )
    # Midnight is skipped there: the day begins at 01:00 local, 01:00 UTC.
    assert complete_at(azores, before) == dt.datetime(2026, 3, 29, 1, 0, tzinfo=dt.UTC)


def test_two_of_three_hours_are_said_after_the_deadline_and_the_third_completes(
    lake_home, tmp_path
):
    day = dt.date(2026, 1, 5)
    source, lake = Source(tmp_path / "source"), Lake.of("shop")
    dataset = dataset_like(
        "shop", partitions={"start": day, "end": day}, automation={"complete": {"files": 3}}
    )
    deliver(source, dt.datetime(2026, 1, 5, 8, tzinfo=dt.UTC), 2)
    land(dataset, lake, None)
    late = dt.datetime(2026, 1, 6, 9, tzinfo=dt.UTC)
    found = look_at(dataset, lake, late).expected
    assert found.days == [day]
    assert found.partial == {day: "2 of its 3 files are there"}
    deliver(source, dt.datetime(2026, 1, 5, 10, tzinfo=dt.UTC), 1)
    found = look_at(dataset, lake, late)
    assert len(found.unread.new) == 1
    assert found.expected.partial == {}


def test_an_undated_source_has_the_days_of_its_events(lake_home):
    dataset = dataset_like(
        "shop",
        partitions={"start": dt.date(2026, 1, 5)},
        landing={**dataset_like("shop").landing.model_dump(), "url": "all.jsonl",
                 "arrival_timezone": "UTC"},
    )  # fmt: skip
    now = dt.datetime(2026, 1, 9, tzinfo=dt.UTC)
    assert expected_days(dataset, Lake.of("shop"), [], now).days == []


def test_nothing_is_missing_after_the_end_of_a_source_that_has_ended(lake_home, tmp_path):
    source, dataset = Source(tmp_path / "source"), hourly(SPRING)
    deliver(source, dt.datetime(2026, 3, 29, tzinfo=dt.UTC), 24)
    land(dataset, Lake.of("shop"), None)
    later = dt.datetime(2026, 4, 3, tzinfo=dt.UTC)
    assert look_at(dataset, Lake.of("shop"), later).expected.missing
    link_source("shop", str(tmp_path / "source"), last_day=SPRING)
    assert look_at(dataset, Lake.of("shop"), later).expected.missing == {}
