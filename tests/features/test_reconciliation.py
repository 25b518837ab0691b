"""Every row of every landing file is published, in quarantine or a repeat; a lost one is told."""

import datetime as dt
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from contracts.lake.layout import Lake
from contracts.lake.schemas import BUILT_FROM, ROWS_STAGED
from features import reconciliation as accounts_module
from features.ingestion.landing import land
from features.reconciliation import reconcile
from tests.builders.daily import ingest
from tests.builders.datasets import shop_like, without_ids
from tests.builders.landing import Source, row

DAYS = [dt.date(2026, 1, n) for n in (4, 5, 6)]
QUALITY = {"max_broken_share": 0.9, "allow_empty_days": True}
WITH_IDS = shop_like(quality=QUALITY, lateness={"allowed_days": 3})
WITHOUT_IDS = without_ids(shop_like(quality=QUALITY))


@pytest.fixture
def lake(lake: Lake, source: Source) -> Lake:
    """A lake of two days of events, with rows of every fate; the third day is not built."""
    good = [row(f"a{n}", f"2026-01-0{4 + n % 2}T08:00:00Z", item=f"i{n}") for n in range(8)]
    source.write(
        "2026-01-05/09",
        *good,
        "{",
        row("b", "soon"),
        row("c", "2025-12-31T10:00:00Z"),
        row("d", "2026-01-01T10:00:00Z"),
        row("e", "2026-01-05T10:00:00Z", type="explode"),
    )
    source.write("2026-01-06/01", *good[:4], good[0], row("f", "2026-01-06T00:30:00Z"))
    return lake


def rewrite(path: Path, drop: int) -> None:
    """Loses rows of an object, and keeps its footer's own words."""
    table = pq.read_table(path)
    told = pq.read_metadata(path).metadata or {}
    with pq.ParquetWriter(path, table.schema.remove_metadata()) as writer:
        writer.write_table(table.slice(drop).replace_schema_metadata(None))
        kept = (BUILT_FROM, ROWS_STAGED)
        writer.add_key_value_metadata({key: told[key] for key in kept if key in told})


@pytest.mark.parametrize("dataset", [WITH_IDS, WITHOUT_IDS], ids=["ids", "content"])
def test_every_row_is_accounted_for(lake, dataset):
    ingest(dataset, DAYS[:2])
    found = reconcile(dataset, lake, recount=True)
    assert found.faults == []
    assert found.balance == 0
    refused = 4 if dataset is WITH_IDS else 3  # without lateness, the first of January is a day
    # Without ids, a content counts as often as in the file that has it most.
    repeats = 5 if dataset is WITH_IDS else 4
    waiting = 1 if dataset is WITH_IDS else 2
    assert found.figures() == {
        "files": 2, "rows": 19, "added": 0, "refused": refused, "forgotten": 0, "waiting": waiting,
        "duplicates": repeats, "quarantined": 1, "published": 19 - 1 - refused - waiting - repeats,
    }  # fmt: skip
    assert DAYS[2] in found.waiting_days


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("events/2026-01-04.parquet", "events 2026-01-04: 7 rows were delivered, 4 without"),
        ("quarantine/events/2026-01-05.parquet", "events 2026-01-05: .* and 0 in quarantine"),
        ("landing/fragments/2026-01-05/*.parquet", "rows of 2026-01-05 were written, and .* has"),
        ("quarantine/landing/*.parquet", "09.jsonl.gz: 4 rows in quarantine were written"),
    ],
)
def test_a_lost_row_is_told_with_its_place_and_what_to_do(lake, place, sentence):
    ingest(WITH_IDS, DAYS[:2])
    path = max(lake.root.glob(place))
    rewrite(path, drop=1)
    found = reconcile(WITH_IDS, lake)
    assert len(found.faults) == 1
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(found.faults[0])
    assert "materialize" in found.faults[0]


def test_an_object_that_is_gone_is_told(lake):
    ingest(WITH_IDS, DAYS[:2])
    min(lake.root.glob("landing/fragments/2026-01-05/*.parquet")).unlink()
    assert "is gone" in reconcile(WITH_IDS, lake).faults[0]


@pytest.mark.parametrize("dataset", [WITH_IDS, WITHOUT_IDS], ids=["ids", "content"])
def test_a_recount_finds_an_event_that_was_taken_for_a_repeat(lake, dataset, monkeypatch):
    monkeypatch.setattr(accounts_module, "RECOUNT_ROWS", 1)  # a query for every day
    ingest(dataset, DAYS[:2])
    # As a fault in the removal of repeats would have it: a row less, and nobody knows of it.
    path = lake.day("events", DAYS[0])
    told = pq.read_metadata(path).metadata or {}
    rows = pq.read_table(path)
    with pq.ParquetWriter(path, rows.schema.remove_metadata()) as writer:
        writer.write_table(rows.slice(1).replace_schema_metadata(None))
        staged = str(int(told[ROWS_STAGED]) - 1).encode()
        writer.add_key_value_metadata({ROWS_STAGED: staged, BUILT_FROM: told[BUILT_FROM]})
    assert reconcile(dataset, lake).faults == []
    (fault,) = reconcile(dataset, lake, recount=True).faults
    # The first file has one content twice: without ids these are two events.
    events = 4 if dataset is WITH_IDS else 5
    told = f"its fragments hold {events} different events, and {events - 1} were kept"
    assert fault.startswith(f"events 2026-01-04: {told}")


def test_a_day_that_is_due_waits(lake, source):
    ingest(WITH_IDS, DAYS)
    assert reconcile(WITH_IDS, lake).waiting_days == []
    source.write("2026-01-06/09", row("z", "2026-01-05T08:00:00Z"))
    land(WITH_IDS, lake, None)
    found = reconcile(WITH_IDS, lake, recount=True)
    assert (found.waiting_days, found.faults, found.balance) == ([DAYS[1]], [], 0)
