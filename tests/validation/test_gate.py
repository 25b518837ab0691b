"""Only what was audited becomes visible, whole; the rest is kept aside with the reason."""

import dataclasses
import datetime as dt
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.lake.layout import Lake
from contracts.lake.schemas import EVENTS, QUARANTINE, SESSIONS, STAGED
from tests import crash
from tests.builders.daily import gate
from tests.builders.datasets import dataset_like
from tests.conftest import REPOSITORY
from tests.validation.staged import (
    DAY,
    END,
    HOUR,
    SHOP,
    START,
    event,
    feature,
    gate_events,
    session,
    stage_events,
    stage_features,
    stage_sessions,
    write,
)
from validation import audit, row_quarantine, suites
from validation.gate import Verdict, audit_events, audit_table, publish
from validation.row_quarantine import read_quarantine

NEXT = DAY + dt.timedelta(days=1)


def good(number: int, **fields: object) -> list[dict]:
    return [event(f"e{n}", source_line=n, **fields) for n in range(number)]


def bad(number: int = 1) -> list[dict]:
    return [event(f"b{n}", value=-1.0, source_line=90 + n) for n in range(number)]


def published(lake: Lake, day: dt.date = DAY) -> list[str]:
    return pq.read_table(lake.day("events", day))["event_id"].to_pylist()


def test_clean_rows_are_published_as_they_were_staged(lake):
    verdict = gate_events(lake, {DAY: good(5)}, duplicates=2)[DAY]
    assert verdict.passed
    assert (verdict.rows_in, verdict.rows_published, verdict.duplicates) == (7, 5, 2)
    assert (verdict.rows_quarantined, verdict.broken, verdict.failures) == (0, {}, [])
    table = pq.read_table(lake.day("events", DAY))
    assert table.schema == EVENTS
    assert table.to_pylist() == [{k: row[k] for k in EVENTS.names} for row in good(5)]
    assert not lake.table("quarantine").exists()


def test_a_few_broken_rows_go_to_quarantine_and_the_day_goes_on(lake):
    rows = [*good(3), event(None, action="bogus", source_line=7), *bad(), event("z")]
    lax = dataset_like("shop", quality={"max_broken_share": 0.5, "min_value": 0})
    verdict = gate_events(lake, {DAY: rows}, lax)[DAY]
    assert (verdict.passed, verdict.rows_published, verdict.rows_quarantined) == (True, 4, 2)
    assert published(lake) == ["e0", "e1", "e2", "z"]
    assert verdict.broken == {"event_id_present": 1, "action_known": 1, "value_at_least": 1}
    kept = pq.read_table(lake.table("quarantine") / "events" / f"{DAY}.parquet")
    assert kept.schema == QUARANTINE
    first, second = kept.to_pylist()
    assert first["broken"] == ["event_id_present", "action_known"]
    assert "action must be one of search, view" in first["detail"]
    assert (first["source_file"], first["source_line"], first["day"]) == ("file", 7, DAY)
    assert json.loads(first["raw"])["properties"] == {"query": "hat"}
    assert second["broken"] == ["value_at_least"]


def test_rows_that_are_broken_between_batches_are_left_out_alone(lake, monkeypatch):
    monkeypatch.setattr(row_quarantine, "BATCH_ROWS", 3)
    rows = [event(f"{n:02}", value=-1.0 if n % 4 == 2 else 1.0) for n in range(20)]
    verdict = gate_events(lake, {DAY: rows})[DAY]
    assert (verdict.rows_published, verdict.rows_quarantined) == (15, 5)
    assert published(lake) == [f"{n:02}" for n in range(20) if n % 4 != 2]


def test_too_many_broken_rows_stop_the_day_and_say_why(lake):
    gate_events(lake, {DAY: good(4)})
    before = lake.day("events", DAY).read_bytes()
    verdict = gate_events(lake, {DAY: [*good(4), *bad(4)]})[DAY]
    assert (verdict.passed, verdict.rows_published, verdict.rows_quarantined) == (False, 0, 4)
    why = "\n".join(verdict.failures)
    assert f"events {DAY}: 4 of 8 rows are broken (50.0%, and 30.0% may be)" in why
    assert "value must be at least 0 (value_at_least): 4 rows" in why
    assert "such as value = -1.0 in file line 90" in why
    assert lake.day("events", DAY).read_bytes() == before
    assert not (lake.table("quarantine") / "events").exists()
    assert len(read_quarantine(lake, ["stopped"], DAY)) == 4
    # Once the day is good, what was kept for inspection goes.
    gate_events(lake, {DAY: good(4)})
    assert len(read_quarantine(lake)) == 0


def test_a_day_that_is_all_bad_stops_whatever_the_share_allowed(lake):
    lax = dataset_like("shop", quality={"min_value": 0, "max_broken_share": 1})
    assert gate_events(lake, {DAY: [*good(1), *bad(9)]}, lax)[DAY].passed
    assert not gate_events(lake, {DAY: bad(2)}, lax)[DAY].passed
    assert published(lake) == ["e0"]


def test_an_empty_day_stops_unless_the_source_has_such_days(lake):
    verdict = gate_events(lake, {DAY: []})[DAY]
    assert not verdict.passed
    assert f"events {DAY}: there are no rows" in verdict.failures[0]
    assert not lake.day("events", DAY).exists()
    quiet = dataset_like("shop", quality={"allow_empty_days": True})
    assert gate_events(lake, {DAY: []}, quiet)[DAY].passed
    assert published(lake) == []


def test_that_a_day_is_empty_is_said_once_though_the_days_before_were_full(lake):
    before = [n * dt.timedelta(days=1) for n in range(1, 9)]
    full = {DAY - ago: good(40, timestamp=START + HOUR - ago) for ago in before}
    assert all(verdict.passed for verdict in gate_events(lake, full).values())
    verdict = gate_events(lake, {DAY: []})[DAY]
    (said,) = verdict.failures
    assert f"events {DAY}: there are no rows" in said
    assert verdict.warnings == []


def test_what_was_found_in_a_day_is_in_the_data_docs_once_the_day_can_be_seen(lake, tmp_path):
    verdicts = audit_events(SHOP, lake, stage_events(tmp_path, {DAY: good(3)}), tmp_path)
    index = (lake.table("data_docs") / "index.html").read_text()
    assert not lake.day("events", DAY).exists()
    assert f'title="{DAY}: 3 rows, 0 in quarantine"' in index
    assert Path(verdicts[DAY].docs).exists()
    publish(lake, "events", verdicts, tmp_path)
    assert lake.day("events", DAY).exists()


def test_repeated_ids_stop_the_day(lake):
    verdict = gate_events(lake, {DAY: [*good(3), *good(1)]})[DAY]
    assert verdict.failures == [f"events {DAY}: 2 rows share their event_id with another row"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_never_published(lake, value):
    gate_events(lake, {DAY: [*good(9), event("x", value=value)]})
    assert published(lake) == [f"e{n}" for n in range(9)]


def test_a_quarantine_that_is_no_longer_true_goes(lake):
    gate_events(lake, {DAY: [*good(9), *bad()]})
    assert len(read_quarantine(lake, ["events"], DAY)) == 1
    gate_events(lake, {DAY: good(9)})
    assert len(read_quarantine(lake)) == 0


def test_good_days_of_a_range_are_published_and_bad_ones_named(lake):
    days = {DAY + dt.timedelta(days=n): [] for n in range(4)}
    for number, day in enumerate(days):
        instant = START + dt.timedelta(days=number, hours=3)
        days[day] = [event(f"{number}-{n}", timestamp=instant) for n in range(4)]
    days[NEXT] = [
        event("late", timestamp=START),
        event("early", timestamp=END + dt.timedelta(days=1)),
    ]
    verdicts = gate_events(lake, days)
    assert [v.passed for v in verdicts.values()] == [True, False, True, True]
    assert lake.days("events") == [day for day in days if day != NEXT]
    assert verdicts[NEXT].broken == {
        "timestamp_not_less_than_day_start": 1,
        "timestamp_less_than_day_end": 1,
    }
    # The day that stopped has a page of its own, the others share one, and all are listed.
    assert verdicts[DAY].docs == verdicts[max(days)].docs != verdicts[NEXT].docs
    index = (lake.root / "data_docs" / "index.html").read_text()
    for verdict in verdicts.values():
        page = Path(verdict.docs)
        assert "timestamp" in page.read_text()
        assert f'href="events/{page.name}"' in index


def test_no_more_pages_of_stopped_days_than_a_few(lake, monkeypatch):
    monkeypatch.setattr(audit, "PAGES_OF_STOPPED_DAYS", 1)
    days = {DAY: bad(), NEXT: bad(), NEXT + dt.timedelta(days=1): bad()}
    gate_events(lake, days)
    assert len(list((lake.root / "data_docs" / "events").glob("*.html"))) == 2


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        (STAGED.remove(1), "column 'user_id' is missing"),
        (STAGED.set(5, pa.field("value", pa.string())), "column 'value' is string and should"),
    ],
)
def test_another_schema_stops_its_day_alone(lake, schema, sentence):
    with lake.staging() as folder:
        staged = stage_events(folder, {DAY: good(3), NEXT: []})
        rows = [event("x", timestamp=END, value=None)]
        write(folder, NEXT, [{k: row[k] for k in schema.names} for row in rows], schema)
        verdicts = audit_events(SHOP, lake, staged, folder)
        publish(lake, "events", verdicts, folder)
    assert [v.passed for v in verdicts.values()] == [True, False]
    assert sentence in verdicts[NEXT].failures[0]
    assert lake.days("events") == [DAY]


def test_a_derived_day_is_published_as_it_was_staged(lake):
    with lake.staging() as folder:
        staged = stage_sessions(folder, [session("a"), session("b")])
        content = staged[DAY].read_bytes()
        verdict = gate(SHOP, lake, "sessions", staged, folder)[DAY]
    assert (verdict.passed, verdict.rows_in, verdict.rows_published) == (True, 2, 2)
    assert lake.day("sessions", DAY).read_bytes() == content
    with lake.staging() as folder:
        staged = stage_features(folder, [feature("a"), feature("a", created=END)])
        assert gate(SHOP, lake, "user_behavior_features", staged, folder)[DAY].passed
    assert lake.days("user_behavior_features") == [DAY]


def test_one_broken_row_stops_a_derived_day(lake):
    with lake.staging() as folder:
        gate(SHOP, lake, "sessions", stage_sessions(folder, [session("a")]), folder)
    before = lake.day("sessions", DAY).read_bytes()
    with lake.staging() as folder:
        rows = [session(f"s{n}") for n in range(99)]
        staged = stage_sessions(folder, [*rows, session("x", length=3)])
        verdict = gate(SHOP, lake, "sessions", staged, folder)[DAY]
    assert (verdict.passed, verdict.rows_published) == (False, 0)
    assert verdict.broken == {"action_count_equals_length": 1, "item_count_equals_length": 1}
    assert any("such as item_count = 2 in x" in sentence for sentence in verdict.failures)
    assert lake.day("sessions", DAY).read_bytes() == before
    assert not lake.table("quarantine").exists()


@pytest.mark.parametrize(
    ("rule", "rows"),
    [
        ("events_1d_at_least", [feature(events_1d=-1)]),
        ("value_1d_finite", [feature(value_1d=math.nan)]),
        ("event_timestamp_equals_day_end", [feature(event_timestamp=START)]),
        ("created_not_less_than_event_timestamp", [feature(created=START)]),
        ("user_id_present", [feature(None)]),
        ("user_id_created_unique", [feature("a"), feature("a")]),
    ],
)
def test_features_that_cannot_be_stop_their_day(lake, rule, rows):
    with lake.staging() as folder:
        staged = stage_features(folder, rows)
        verdict = gate(SHOP, lake, "user_behavior_features", staged, folder)[DAY]
    assert not verdict.passed
    assert rule in verdict.broken


def test_a_derived_day_may_be_empty(lake):
    with lake.staging() as folder:
        assert gate(SHOP, lake, "sessions", stage_sessions(folder, []), folder)[DAY].passed
    assert pq.read_schema(lake.day("sessions", DAY)).names == SESSIONS.names


def test_nothing_staged_has_no_verdict(lake, tmp_path):
    assert audit_events(SHOP, lake, {}, tmp_path) == {}
    assert audit_table(SHOP, lake, "sessions", {}, tmp_path) == {}


def test_quarantine_is_read_by_stage_day_and_limit(lake):
    rows = {DAY: [*good(9), *bad(2)], NEXT: bad(3)}
    for row in rows[NEXT]:
        row["timestamp"] = END
    gate_events(lake, rows)
    assert len(read_quarantine(lake)) == 5
    assert len(read_quarantine(lake, limit=3)) == 3
    assert len(read_quarantine(lake, ["stopped"])) == len(read_quarantine(lake, day=NEXT)) == 3
    assert read_quarantine(lake, ["landing"]).schema == QUARANTINE


def test_an_audit_sends_nothing_and_prints_nothing(lake, lake_home, tmp_path):
    path = stage_events(tmp_path, {DAY: good(3)})[DAY].path
    code = f"""
import os, sys
os.environ.pop("GX_ANALYTICS_ENABLED", None)
calls = []
sys.addaudithook(lambda name, args: name.startswith("socket.") and calls.append((name, args)))
import datetime as dt
from pathlib import Path
from contracts.lake.layout import Lake
from features.ingestion.dedup import StagedEvents
from tests import crash
from tests.builders.datasets import dataset_like
from validation.gate import audit_events
staged = {{dt.date(2026, 1, 5): StagedEvents(Path({str(path)!r}), 3, 0)}}
folder = Path({str(tmp_path)!r})
verdicts = audit_events(dataset_like("shop"), Lake.of("shop"), staged, folder)
assert all(verdict.passed for verdict in verdicts.values())
outward = [c for c in calls if c[0] in ("socket.connect", "socket.getaddrinfo", "socket.sendto")]
assert not outward, outward
assert os.environ["GX_ANALYTICS_ENABLED"] == "false"
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_audits_of_one_process_share_one_context_and_each_judges_its_own_rows(lake, monkeypatch):
    import great_expectations

    made, get_context = [], great_expectations.get_context
    monkeypatch.setattr(
        great_expectations, "get_context", lambda **kind: made.append(kind) or get_context(**kind)
    )
    suites._data_source.cache_clear()
    suites._batch_definition.cache_clear()
    for number, rows in enumerate([good(2), [*good(9), *bad(2)], good(4), [*good(9), *bad(1)]]):
        verdict = gate_events(lake, {DAY: rows})[DAY]
        # A count that differed from DuckDB's of the same rows would stop the day.
        assert (verdict.passed, verdict.rows_quarantined) == (True, [0, 2, 0, 1][number])
    assert len(made) == 1


@pytest.mark.parametrize(
    "module", ["validation.gate", "features.ingestion.landing", "features.ingestion.dedup"]
)
def test_importing_the_room_loads_nothing_heavy(module):
    heavy = ["torch", "feast", "great_expectations", "pandas", "ibis", "sklearn", "fsspec"]
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert loaded.stdout.strip() == "[]"


def test_a_publish_that_dies_leaves_the_old_day_or_the_new_one(lake, tmp_path):
    crash.preload("validation.gate")
    verdicts = [
        audit_events(SHOP, lake, stage_events(tmp_path / str(n), {DAY: rows}), tmp_path / str(n))
        for n, rows in enumerate([[*good(8), *bad()], good(9)])
    ]

    def verdict(number: int) -> dict[dt.date, Verdict]:
        """Returns a verdict whose files are copies: publishing moves them."""
        found = verdicts[number][DAY]
        copies = {
            part: shutil.copy(path, tmp_path / f"{number} {part}")
            for part in ("clean", "refused")
            if (path := getattr(found, part))
        }
        return {DAY: dataclasses.replace(found, **copies)}

    step, died = 0, True
    while died:
        publish(lake, "events", verdict(0), tmp_path)
        died = crash.dies_at(step, publish, lake, "events", verdict(1), tmp_path)
        assert len(published(lake)) == (8 if step == 0 else 9)
        publish(lake, "events", verdict(1), tmp_path)
        assert len(published(lake)) == 9
        assert len(read_quarantine(lake)) == 0
        step += 1
    assert step > 2
