"""A day is due when its rows change, and not when its landing file does."""

import datetime as dt
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from contracts.lake.schemas import FRAGMENT, QUARANTINE
from features.ingestion.landing import LandingReport, land
from features.provenance import Digester, digest_of
from features.reconciliation import reconcile
from features.staleness import find_stale
from tests.builders.daily import build_unaudited
from tests.builders.datasets import LAX, shop_like
from tests.builders.landing import Source, row

SHOP = shop_like(quality=LAX)
DAYS = [dt.date(2026, 1, number) for number in (3, 4, 5)]

TEXT = st.sampled_from([None, "", "a", "ab", "ü"])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "event_id": TEXT,
            "user_id": TEXT,
            "timestamp": st.sampled_from(DAYS).map(lambda d: dt.datetime(d.year, d.month, d.day)),
            "action": TEXT,
            "item_id": TEXT,
            "value": st.sampled_from([None, 0.0, 1.5]),
            "session_id": TEXT,
            "properties": st.sampled_from([None, [], [("k", "v")], [("k", None), ("l", "w")]]),
            "source_file": st.just("file"),
            "source_line": st.integers(1, 3),
        }
    ),
    min_size=1,
    max_size=6,
)


def at(day: int, name: str, **fields: object) -> str:
    return row(name, f"2026-01-0{day}T08:00:00Z", **fields)


class OneFile:
    """A source that is one file of three days, whose events are published."""

    def __init__(self, folder: Path) -> None:
        self.source = Source(folder)
        self.lake = Lake.of("shop")

    def land(self, *lines: str) -> LandingReport:
        self.source.write("2026-01-06/01", *lines)
        return land(SHOP, self.lake, None)

    def build(self) -> None:
        build_unaudited(SHOP, DAYS, ("events",))

    @property
    def due(self) -> list[int]:
        return [day.day for day in find_stale(SHOP, self.lake).reasons["events"]]


@pytest.fixture
def one_file(tmp_path: Path, lake_home: Path) -> OneFile:
    found = OneFile(tmp_path / "source")
    found.land(at(3, "a"), at(4, "b"), at(5, "c"))
    found.build()
    assert found.due == []
    return found


@pytest.mark.parametrize(
    ("lines", "due"),
    [
        ([at(3, "a"), at(4, "b", item="other"), at(5, "c")], [4]),
        ([at(3, "a"), at(4, "b"), at(5, "c"), at(5, "d")], [5]),
        ([at(4, "b"), at(5, "c")], [3]),  # the lines of the others move up
        ([at(4, "b"), at(5, "c"), at(3, "a")], []),
    ],
    ids=["changed", "added", "removed", "moved"],
)
def test_of_a_file_that_changes_only_the_days_with_other_rows_are_due(one_file, lines, due):
    report = one_file.land(*lines)
    assert [day.day for day in report.days] == one_file.due == due
    stock = reconcile(SHOP, one_file.lake)
    assert [day.day for day in stock.waiting_days] == due
    one_file.build()
    assert one_file.due == []
    assert reconcile(SHOP, one_file.lake, recount=True).faults == []


def test_where_rows_are_in_quarantine_their_lines_count_too(one_file):
    refused = one_file.lake.table("quarantine") / "events" / f"{DAYS[1]}.parquet"
    publish_table(one_file.lake, QUARANTINE.empty_table(), refused)
    one_file.land(at(5, "d"), at(3, "a"), at(4, "b"), at(5, "c"))
    assert one_file.due == [4, 5]


def test_the_same_rows_are_due_in_another_time_zone(one_file):
    moved = SHOP.model_copy(update={"timezone": "Asia/Tokyo"})
    assert [day.day for day in land(moved, one_file.lake, None).days] == [3, 4, 5]
    assert list(find_stale(moved, one_file.lake).reasons["events"]) == DAYS


def test_a_manifest_of_another_format_is_refused_and_its_file_read_again(one_file):
    (path,) = (one_file.lake.table("landing") / "files").glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 1}))
    with pytest.raises(FootpathError, match=r"1 manifests .* are of another release.*materialize"):
        find_stale(SHOP, one_file.lake)
    assert land(SHOP, one_file.lake, None).files_read == 1
    assert one_file.due == []


@settings(max_examples=40, deadline=None)
@given(rows=ROWS, others=ROWS, cut=st.integers(0, 6))
def test_a_digest_stands_for_the_rows_however_they_are_cut(rows, others, cut):
    table = pa.Table.from_pylist(rows, FRAGMENT)
    digester = Digester()
    for part in (table.slice(0, cut), table.slice(cut)):
        digester.add(part)
    assert digester.digest() == digest_of(table)
    other = pa.Table.from_pylist(others, FRAGMENT)
    lines = "source_line"
    same_rows = table.drop_columns(lines).equals(other.drop_columns(lines))
    assert (digest_of(other).content == digest_of(table).content) == same_rows
    assert (digest_of(other).lines == digest_of(table).lines) == table[lines].equals(other[lines])
