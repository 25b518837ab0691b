"""Landing files to published events: no row is lost, made or counted twice, even if killed."""

import datetime as dt
import json
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.base.clock import day_window, days_between
from contracts.lake import schemas
from contracts.lake.layout import Lake
from features.ingestion.landing import land
from tests import crash
from tests.builders.daily import build, ingest, ingest_in
from tests.builders.datasets import four_days, shop_like
from tests.builders.landing import Source, refused, row
from validation.gate import Verdict
from validation.table_rules import LONGEST_ID

SHOP = four_days()
DAYS = days_between(dt.date(2026, 1, 4), dt.date(2026, 1, 7))
HOURS = ["2026-01-05/09", "2026-01-05/10", "2026-01-06/09"]
WINDOWS = {day: day_window(day, SHOP.timezone) for day in DAYS}
crash.preload("tests.builders.daily", "great_expectations")

INSTANTS = st.sampled_from(
    ["2026-01-03T22:59:59Z", "2026-01-03T23:00:00Z", "2026-01-05T10:00:00Z", "2026-01-05T23:30:00Z",
     "2026-01-06T22:59:59.999999Z", "2026-01-07T23:00:00Z", "soon", ""]
)  # fmt: skip
EVENTS = st.builds(
    row,
    st.sampled_from(["a", "b", "c", "d", None]),
    INSTANTS,
    user=st.sampled_from(["u1", "u2", "", None]),
    type=st.sampled_from(["view", "view", "view", "bogus"]),
    price=st.sampled_from([1.5, 1.5, -1, None, "x"]),
).map(str.encode)
LINES = st.lists(EVENTS | st.sampled_from([b"{", b'{"id": "\xff"}', b"", b"[]"]), max_size=14)


class Expected:
    """What plain Python makes of the files: published events and the count of every other row."""

    def __init__(self, files: list[list[bytes]]) -> None:
        self.rows = self.refused = 0
        self.by_day: dict[dt.date, list[dict]] = {day: [] for day in DAYS}
        for hour, lines in zip(HOURS, files, strict=False):
            # A file has no event later than the day after its own.
            last = dt.date.fromisoformat(hour[:10]) + dt.timedelta(days=1)
            for line in filter(None, lines):
                self.rows += 1
                event, day = self._read(line)
                if day and day <= last:
                    self.by_day[day].append(event)
                else:
                    self.refused += 1
        self.duplicates = {day: self._drop_duplicates(day) for day in DAYS}
        self.clean = {
            day: [e for e in rows if self._keeps_rules(e)] for day, rows in self.by_day.items()
        }

    @staticmethod
    def _read(line: bytes) -> tuple[dict, dt.date | None]:
        try:
            event = json.loads(line)
            instant = dt.datetime.fromisoformat(event["ts"])
            event["price"] is None or float(event["price"])
        except (ValueError, TypeError):
            return {}, None
        days = [day for day, (start, end) in WINDOWS.items() if start <= instant < end]
        return event, days[0] if days else None

    def _drop_duplicates(self, day: dt.date) -> int:
        first: dict[str, dict] = {}
        kept = []
        for event in self.by_day[day]:
            if event["id"] is None or event["id"] not in first:
                first[event["id"]] = event
                kept.append(event)
        duplicates = len(self.by_day[day]) - len(kept)
        self.by_day[day] = kept
        return duplicates

    @staticmethod
    def _keeps_rules(event: dict) -> bool:
        return bool(
            event["id"]
            and event["user"]
            and event["type"] == "view"
            and (event["price"] is None or event["price"] >= 0)
        )


def visible(root: Path) -> dict[str, list[dict]]:
    """Reads every object that a reader's glob finds: all must be whole, in their table's schema."""
    found = {}
    for table, schema in (("events", schemas.EVENTS), ("quarantine/*", schemas.QUARANTINE)):
        for path in sorted(root.glob(f"{table}/*.parquet")):
            rows = pq.read_table(path)
            assert rows.schema == schema, path
            found[str(path.relative_to(root))] = rows.to_pylist()
    return found


def check(expected: Expected, verdicts: dict[dt.date, Verdict], lake: Lake) -> None:
    found = visible(lake.root)
    landing = [rows for path, rows in found.items() if path.startswith("quarantine/landing")]
    assert sum(map(len, landing)) == expected.refused
    for day, verdict in verdicts.items():
        staged, clean = expected.by_day[day], expected.clean[day]
        assert verdict.passed == (bool(clean) or not staged)
        assert verdict.rows_in == len(staged) + expected.duplicates[day]
        assert (verdict.duplicates, verdict.rows_published) == (
            expected.duplicates[day],
            len(clean),
        )
        assert verdict.rows_quarantined == len(staged) - len(clean)
        published = found.get(f"events/{day}.parquet", [])
        ids = Counter((event["event_id"], event["value"]) for event in published)
        assert ids == Counter((event["id"], event["price"]) for event in clean)
    assert expected.rows == expected.refused + sum(v.rows_in for v in verdicts.values())


def is_lines(lines: list[bytes]) -> bool:
    """Tells whether a file has an object a line: by what it begins with, which is read as it is."""
    first = b"\n".join(lines).strip().split(b"\n")[0].strip()
    return not first.startswith(b"[") and first != b"{"


@settings(max_examples=4, deadline=None)
@given(files=st.lists(LINES.filter(is_lines), min_size=1, max_size=3))
def test_every_row_is_published_quarantined_or_a_repeat(files):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOOTPATH_HOME", f"{folder}/home")
        source = Source(Path(folder) / "source")
        for hour, lines in zip(HOURS, files, strict=False):
            source.write(hour, *lines)
        expected = Expected(files)
        check(expected, ingest(SHOP), Lake.of("shop"))
        # The same files again, and under other names: not a row more.
        for hour, lines in zip(HOURS, files, strict=False):
            source.write(hour, *lines)
        before = visible(Lake.of("shop").root)
        ingest(SHOP)
        assert visible(Lake.of("shop").root) == before


def test_killed_at_any_moment_readers_see_whole_days_and_the_next_run_ends_the_same(
    tmp_path, monkeypatch
):
    """Two deliveries, of which the second changes files of the first, each killed several times."""
    picks = random.Random(0)
    deliveries = [_delivery(picks, files=3, late=0), _delivery(picks, files=4, late=30)]
    monkeypatch.setenv("FOOTPATH_HOME", str(tmp_path / "undisturbed"))
    source = Source(tmp_path / "source")
    undisturbed, seconds = [], 0.0
    for lines in deliveries:
        _write(source, lines)
        started = time.monotonic()
        ingest(SHOP)
        seconds = time.monotonic() - started
        undisturbed.append(visible(Lake.of("shop").root))

    monkeypatch.setenv("FOOTPATH_HOME", str(tmp_path / "killed"))
    source = Source(tmp_path / "source of the killed")
    root = Lake.of("shop").root
    whole: dict[str, list] = {}
    for lines, end in zip(deliveries, undisturbed, strict=True):
        _write(source, lines)
        for _ in range(3):
            child = crash.start(ingest_in, str(tmp_path / "killed"), SHOP)
            child.join(timeout=picks.uniform(0.3, 1.3) * seconds)
            child.kill()
            child.join()
            for path, rows in visible(root).items():
                if path.startswith("events"):
                    assert rows in (end[path], whole.get(path)), path
        ingest(SHOP)
        whole = visible(root)
        assert whole == end


def _delivery(picks: random.Random, files: int, late: int) -> dict[str, list[str]]:
    """Returns hour -> lines; the same hours have some of the same ids in every delivery."""
    delivery = {}
    for n in range(files):
        last = 5 + n % 2
        delivery[f"2026-01-0{last}/{n:02}"] = [
            row(
                f"{n}-{k}",
                f"2026-01-0{picks.randint(4, last)}T{k % 24:02}:00:00Z",
                user=f"u{k % 5}",
                type="view" if k % 9 else "bogus",
            )
            for k in range(40 + late)
        ]
    return delivery


def _write(source: Source, delivery: dict[str, list[str]]) -> None:
    for hour, lines in delivery.items():
        source.write(hour, *lines)


@pytest.mark.parametrize("length", [495, 496, LONGEST_ID, LONGEST_ID + 1])
def test_a_long_id_costs_nobody_else_their_sessions(length, tmp_path, lake_home):
    day = dt.date(2026, 1, 5)
    source = Source(tmp_path / "source")
    long = "x" * length
    rows = [row(f"e{n}", f"2026-01-05T08:{n:02}:00Z", user=f"u{n % 5}") for n in range(20)]
    source.write("2026-01-05/09", *rows, row("long", "2026-01-05T08:30:00Z", user=long))
    dataset, lake = shop_like(quality={"max_broken_share": 0.1}), Lake.of("shop")
    land(dataset, lake, None)
    build(dataset, lake, [day], ("events", "sessions"))
    users = set(pq.read_table(lake.day("sessions", day))["user_id"].to_pylist())
    broken = [rule for _, _, rule in refused(lake, "events")]
    assert users - {long} == {f"u{n}" for n in range(5)}
    assert (long in users, broken) == (
        (True, []) if length <= LONGEST_ID else (False, ["user_id_length"])
    )
