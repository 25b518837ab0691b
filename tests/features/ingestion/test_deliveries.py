"""However rows are delivered, in what order, how often, wherever a run dies: the same events."""

import datetime as dt
import os
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.lake.layout import Lake
from features.ingestion.landing import land
from features.staleness import find_stale
from tests import crash
from tests.builders.daily import build, build_unaudited
from tests.builders.datasets import LAX, shop_like, without_ids
from tests.builders.landing import Source, row

WITH_IDS = shop_like(quality=LAX)
WITHOUT_IDS = without_ids(WITH_IDS)
DAYS = [dt.date(2026, 1, 4), dt.date(2026, 1, 5)]
HOURS = ["2026-01-05/09", "2026-01-05/10", "2026-01-06/01", "2026-01-06/02"]
crash.preload("features.ingestion.landing", "features.ingestion.dedup", "tests.builders.daily")

# A row: (day, item). Few of each, so that files repeat rows and overlap.
ROWS = st.lists(st.tuples(st.sampled_from([4, 5]), st.sampled_from("ab")), max_size=5)
FILES = st.lists(ROWS, min_size=2, max_size=4)


def line(day: int, item: str, ids: bool) -> str:
    identity = f"{day}{item}" if ids else None
    return row(identity, f"2026-01-0{day}T08:00:00Z", item=item)


def published(lake: Lake) -> dict[str, list[dict]]:
    return {str(day): pq.read_table(lake.day("events", day)).to_pylist() for day in DAYS}


def ingest(home: str, ids: bool) -> None:
    """Lands the files that there are and builds what is due, in a process of its own."""
    os.environ["FOOTPATH_HOME"] = home
    dataset = WITH_IDS if ids else WITHOUT_IDS
    lake = Lake.of("shop")
    land(dataset, lake, None)
    days = DAYS if not lake.days("events") else list(find_stale(dataset, lake).reasons["events"])
    build_unaudited(dataset, days, ("events",))


def delivered(
    files: list[list[tuple[int, str]]], order: list[int], ids: bool, death: int | None = None
) -> dict[str, list[dict]]:
    """Delivers files in an order, one after the other; returns the events at the end."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOOTPATH_HOME", f"{folder}/home")
        source = Source(Path(folder) / "source")
        for number, place in enumerate(order):
            source.write(HOURS[place], *[line(day, item, ids) for day, item in files[place]])
            if death is not None and number == len(order) - 1:
                assert crash.dies_at(death, ingest, f"{folder}/home", ids)
            ingest(f"{folder}/home", ids)
        lake = Lake.of("shop")
        assert not find_stale(WITH_IDS if ids else WITHOUT_IDS, lake).reasons["events"]
        return published(lake)


@pytest.mark.parametrize("ids", [True, False], ids=["ids", "content"])
@settings(max_examples=4, deadline=None)
@given(files=FILES, data=st.data())
def test_events_do_not_depend_on_the_order_of_deliveries(ids, files, data):
    order = data.draw(st.permutations(range(len(files))))
    again = data.draw(st.lists(st.sampled_from(order), max_size=2))
    found = delivered(files, [*order, *again], ids)
    assert found == delivered(files, list(range(len(files))), ids)
    for day in (4, 5):
        most: Counter = Counter()
        for rows in files:
            most |= Counter(item for on, item in rows if on == day)
        wanted = Counter(set(most)) if ids else most
        assert Counter(event["item_id"] for event in found[f"2026-01-0{day}"]) == wanted


@pytest.mark.parametrize(
    ("ids", "death"),
    [(True, 0), (False, 1), (True, 2), (False, 3)],
    ids=["ids-0", "content-1", "ids-2", "content-3"],
)
def test_events_do_not_depend_on_where_a_run_died(ids, death):
    files = [[(4, "a"), (4, "a"), (5, "b")], [(4, "a"), (5, "a"), (5, "b")], [(5, "b"), (5, "b")]]
    assert delivered(files, [0, 1, 2], ids, death) == delivered(files, [2, 1, 0], ids)


def test_an_id_that_comes_again_on_another_day_is_an_event_of_either_day():
    """What the documentation of events.event_id says: an id is looked for within its day."""
    files = [[(4, "a")], [(5, "a")]]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOOTPATH_HOME", f"{folder}/home")
        source = Source(Path(folder) / "source")
        for hour, rows in zip(HOURS, files, strict=False):
            source.write(hour, *[row("x", f"2026-01-0{day}T08:00:00Z") for day, _ in rows])
        lake = Lake.of("shop")
        land(WITH_IDS, lake, None)
        build(WITH_IDS, lake, DAYS, ("events",))
        found = published(lake)
    assert [event["event_id"] for day in found.values() for event in day] == ["x", "x"]
