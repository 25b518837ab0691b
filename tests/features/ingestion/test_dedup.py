"""An event counts once, however often and in whatever order it was delivered."""

import datetime as dt
import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.lake.layout import Lake
from contracts.lake.schemas import STAGED
from features.ingestion import dedup as dedup_module
from features.ingestion.dedup import StagedEvents, stage_events
from features.ingestion.landing import land
from tests.builders.datasets import shop_like, without_ids
from tests.builders.landing import Source, row

WITH_IDS = shop_like()
WITHOUT_IDS = without_ids(WITH_IDS)
DAY = dt.date(2026, 1, 5)
HOURS = ["2026-01-05/09", "2026-01-05/10", "2026-01-06/01"]


def staged(dataset, days=(DAY,)) -> tuple[dict[dt.date, StagedEvents], dict[dt.date, list[dict]]]:
    """Lands and stages; returns what was staged, and the rows of each day."""
    lake = Lake.of("shop")
    land(dataset, lake, None)
    with lake.staging() as folder:
        parts = stage_events(dataset, lake, list(days), folder)
        return parts, {day: pq.read_table(part.path).to_pylist() for day, part in parts.items()}


def rows_of(dataset) -> list[dict]:
    return staged(dataset)[1][DAY]


# (id, price): few of each, so that they repeat.
ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 2)), max_size=5)


def deliver(source: Source, files: list[list[tuple[str, int]]]) -> None:
    for hour, rows in zip(HOURS, files, strict=False):
        lines = [row(i, "2026-01-05T08:00:00Z", price=price) for i, price in rows]
        source.write(hour, *lines)


@settings(max_examples=6, deadline=None)
@given(files=st.lists(ROWS, min_size=1, max_size=3))
def test_an_id_is_one_event_and_what_was_delivered_first_counts(files):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOOTPATH_HOME", f"{folder}/home")
        deliver(Source(Path(folder) / "source"), files)
        parts, rows = staged(WITH_IDS)
    first: dict[str, float] = {}
    for i, price in [pair for rows_of_file in files for pair in rows_of_file]:
        first.setdefault(i, price)
    assert {r["event_id"]: r["value"] for r in rows[DAY]} == first
    assert len(rows[DAY]) == len(first)
    assert parts[DAY].fragment_rows == sum(map(len, files)) == len(first) + parts[DAY].duplicates


@settings(max_examples=6, deadline=None)
@given(files=st.lists(ROWS, min_size=1, max_size=3))
def test_without_ids_a_content_counts_as_often_as_in_the_file_that_has_it_most(files):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOOTPATH_HOME", f"{folder}/home")
        source = Source(Path(folder) / "source")
        for hour, rows in zip(HOURS, files, strict=False):
            # The item tells contents apart; the source's id is not read.
            lines = [row(None, "2026-01-05T08:00:00Z", item=i, price=p) for i, p in rows]
            source.write(hour, *lines)
        parts, found = staged(WITHOUT_IDS)
    most: Counter = Counter()
    for rows in files:
        most |= Counter(rows)
    assert Counter((r["item_id"], r["value"]) for r in found[DAY]) == most
    assert len({r["event_id"] for r in found[DAY]}) == most.total()
    assert parts[DAY].fragment_rows == sum(map(len, files)) == most.total() + parts[DAY].duplicates


def test_ids_made_of_content_do_not_depend_on_the_file(source):
    line = row(None, "2026-01-05T08:00:00Z", query='a"b')
    source.write("2026-01-05/09", line, line)
    before = [r["event_id"] for r in rows_of(WITHOUT_IDS)]
    shutil.rmtree(source.folder / "events")
    shutil.rmtree(Lake.of("shop").root)
    source.write("2026-01-05/11", row(None, "2026-01-05T09:00:00Z"), line, line)
    after = [r["event_id"] for r in rows_of(WITHOUT_IDS)]
    assert len(before) == 2
    assert set(before) <= set(after)


def test_contents_that_only_look_alike_are_different_events(source):
    source.write(
        "2026-01-05/09",
        row(None, "2026-01-05T08:00:00Z", query=None, device="x"),
        row(None, "2026-01-05T08:00:00Z", query="x", device=None),
        row(None, "2026-01-05T08:00:00Z", item="i1", query="null"),
        row(None, "2026-01-05T08:00:00.000001Z"),
    )
    source.write("2026-01-05/10", row(None, "2026-01-05T08:00:00Z", query=None, device="x"))
    parts, _ = staged(WITHOUT_IDS)
    assert (parts[DAY].fragment_rows, parts[DAY].duplicates) == (5, 1)


def test_rows_whose_id_is_missing_repeat_nothing(source):
    line = row(None, "2026-01-05T08:00:00Z")
    source.write("2026-01-05/09", line, line, row("a", "2026-01-05T08:00:00Z"))
    source.write("2026-01-05/10", line)
    assert [r["event_id"] for r in rows_of(WITH_IDS)] == [None, None, "a", None]


def test_the_earliest_arrival_counts_whatever_the_files_are_called(source):
    reversed_names = shop_like(
        landing=WITH_IDS.landing.model_dump()
        | {"url": "events/{day}.{month}.{year}.jsonl.gz"}
    )  # fmt: skip
    for name, price in (("06.01.2026", 2), ("31.12.2025", 1)):
        path = source.write("x/y", row("a", "2026-01-05T08:00:00Z", price=price))
        path.rename(source.folder / "events" / f"{name}.jsonl.gz")
    # Events may come a day after their file's date at most: the older file's row is of no day.
    assert [r["value"] for r in rows_of(reversed_names)] == [2]
    path = source.write("x/y", row("a", "2026-01-05T08:00:00Z", price=3))
    path.rename(source.folder / "events" / "05.01.2026.jsonl.gz")
    path = source.write("x/y", row("a", "2026-01-05T08:00:00Z", price=4))
    path.rename(source.folder / "events" / "01.02.2026.jsonl.gz")
    assert [r["value"] for r in rows_of(reversed_names)] == [3]


def test_staged_events_are_sorted_by_user_time_and_delivery(source):
    source.write(
        "2026-01-05/09",
        row("d", "2026-01-05T09:00:00Z", "u2"),
        row("c", "2026-01-05T08:00:00Z", "u2"),
        row("b", "2026-01-05T08:00:00Z", "u2"),
        row("a", "2026-01-05T10:00:00Z", "u1"),
    )
    assert [r["event_id"] for r in rows_of(WITH_IDS)] == ["a", "c", "b", "d"]


def test_a_range_is_the_same_as_its_days_one_by_one(source, monkeypatch):
    days = [DAY + dt.timedelta(days=n) for n in range(-1, 3)]
    for number, hour in enumerate(HOURS):
        source.write(hour, *[row(f"{n % 7}", f"2026-01-0{4 + n % 3}T08:00:00Z", price=number + 1)
                             for n in range(20)])  # fmt: skip
    whole, rows = staged(WITH_IDS, days)
    assert [part.fragment_rows for part in whole.values()] == [21, 21, 18, 0]
    for day in days:
        assert staged(WITH_IDS, [day])[1][day] == rows[day]
    monkeypatch.setattr(dedup_module, "CHUNK_BYTES", 1)
    assert staged(WITH_IDS, days)[1] == rows


def test_a_day_without_a_fragment_has_no_rows(source):
    source.write("2026-01-05/09", row("a", "2026-01-04T08:00:00Z"))
    lake = Lake.of("shop")
    land(WITH_IDS, lake, None)
    with lake.staging() as folder:
        part = stage_events(WITH_IDS, lake, [DAY], folder)[DAY]
        assert (part.fragment_rows, part.duplicates) == (0, 0)
        assert pq.read_schema(part.path) == STAGED


def test_a_file_that_was_delivered_again_under_another_name_changes_nothing(source):
    lines = [row(None, "2026-01-05T08:00:00Z")] * 2 + [row(None, "2026-01-05T09:00:00Z")]
    source.write("2026-01-05/09", *lines)
    before = rows_of(WITHOUT_IDS)
    source.write("2026-01-05/10", *lines)
    after = rows_of(WITHOUT_IDS)
    assert json.dumps(before, default=str) == json.dumps(after, default=str)
