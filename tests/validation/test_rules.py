"""DuckDB's row rules and Great Expectations find the same rows broken."""

import dataclasses
import datetime as dt
import math
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.lake.engine import connect
from tests.builders.datasets import dataset_like
from tests.validation.staged import (
    DAY,
    END,
    HOUR,
    START,
    event,
    feature,
    session,
    stage_events,
    stage_features,
    stage_sessions,
)
from validation import counts as counts_module
from validation.counts import AuditedDays, DayCounts
from validation.suites import build_suite, unexpected_counts
from validation.table_rules import LONGEST_ID, Audit, events_audit, features_audit, sessions_audit

SHOP = dataset_like("shop", quality={"min_value": 0, "max_value": 100})
ZONE = SHOP.timezone
MICROSECOND = dt.timedelta(microseconds=1)


def audited(audit: Audit, paths: dict[dt.date, Path]) -> tuple[dict[dt.date, DayCounts], list[str]]:
    """Returns what DuckDB counts, and what Great Expectations counts otherwise."""
    with connect() as connection:
        days = AuditedDays(connection, audit, paths, ZONE)
        counts = days.count()
        return counts, days.validate(counts)[0]


ID = st.sampled_from([None, "", "x", "ü" * LONGEST_ID, "x" * (LONGEST_ID + 1)])
NUMBER = st.sampled_from([None, 0.0, -0.1, 100.0, 100.1, math.nan, math.inf, -math.inf])
INSTANT = st.sampled_from([START - MICROSECOND, START, END - MICROSECOND, END, None])
MESSY_EVENTS = st.lists(
    st.builds(
        event,
        st.sampled_from([None, "", "a", "b", "c"]),
        user_id=ID,
        item_id=ID,
        session_id=ID,
        timestamp=INSTANT,
        action=st.sampled_from([None, "view", "bogus", "o'clock"]),
        value=NUMBER,
    ),
    max_size=12,
)


def expected_counts(rows: list[dict]) -> dict[str, int]:
    """Counts the broken rows of the shop in plain Python."""

    def count(column: str, test: Callable) -> int:
        return sum(row[column] is not None and test(row[column]) for row in rows)

    expected = {
        f"{column}_present": sum(row[column] is None for row in rows)
        for column in ("event_id", "user_id", "timestamp", "action")
    }
    for column in ("event_id", "user_id", "item_id", "session_id"):
        expected[f"{column}_length"] = count(column, lambda v: not 1 <= len(v) <= LONGEST_ID)
    ids = [row["event_id"] for row in rows]
    expected |= {
        "action_known": count("action", lambda v: v not in SHOP.actions),
        "value_finite": count("value", lambda v: not math.isfinite(v)),
        "value_at_least": count("value", lambda v: v < 0),
        "value_at_most": count("value", lambda v: math.isnan(v) or v > 100),
        "timestamp_not_less_than_day_start": count("timestamp", lambda v: v < START),
        "timestamp_less_than_day_end": count("timestamp", lambda v: v >= END),
        "event_id_unique": count("event_id", lambda v: ids.count(v) > 1),
    }
    return {rule: n for rule, n in expected.items() if n}


@settings(max_examples=6, deadline=None)
@given(rows=MESSY_EVENTS)
def test_both_engines_count_the_broken_events_of_a_day(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("staged")
    paths = {day: part.path for day, part in stage_events(folder, {DAY: rows}).items()}
    counts, disagreements = audited(events_audit(SHOP), paths)
    assert disagreements == []
    assert counts[DAY].broken == expected_counts(rows)
    assert counts[DAY].rows == len(rows)


@settings(max_examples=4, deadline=None)
@given(rows=MESSY_EVENTS)
def test_both_engines_agree_over_many_days(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("staged")
    days = {DAY: rows, DAY + dt.timedelta(days=1): [], DAY + dt.timedelta(days=2): rows[:2]}
    paths = {day: part.path for day, part in stage_events(folder, days).items()}
    counts, disagreements = audited(events_audit(SHOP), paths)
    assert disagreements == []
    assert [counts[day].rows for day in days] == [len(rows), 0, len(rows[:2])]
    assert counts[DAY].broken == expected_counts(rows)


def test_of_many_rows_great_expectations_sees_a_sample_with_the_broken_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(counts_module, "GX_ROWS", 50)
    monkeypatch.setattr(counts_module, "GX_BROKEN_ROWS", 8)
    rows = [event(f"e{n}", value=-1.0 if n % 500 == 7 else 1.0) for n in range(2000)]
    paths = {DAY: stage_events(tmp_path, {DAY: rows})[DAY].path}
    with connect() as connection:
        days = AuditedDays(connection, events_audit(SHOP), paths, ZONE)
        counts = days.count()
        disagreements, result, seen = days.validate(counts)
        assert days.validate(counts)[2] == seen  # the same rows every time
    assert counts[DAY].broken == {"value_at_least": 4}
    assert disagreements == []
    assert unexpected_counts(result)["value_at_least"] == 4
    drawn = next(r.result.get("element_count", 0) for r in result.results)
    assert 20 < drawn < 110
    assert seen == f"a sample of {drawn} of 2,000 rows; the row rules saw every row"


MESSY_SESSIONS = st.lists(
    st.builds(
        session,
        st.sampled_from([None, "a", "b", "c"]),
        user_id=ID,
        started_at=INSTANT,
        ended_at=INSTANT,
        closes_at=INSTANT,
        length=st.integers(-1, 3),
        duration_seconds=NUMBER,
        actions=st.lists(st.just("view"), max_size=3),
        item_ids=st.lists(st.none(), max_size=3),
        distinct_items=st.integers(-1, 3),
        value=NUMBER,
        is_cut=st.booleans(),
    ),
    max_size=8,
)


@settings(max_examples=4, deadline=None)
@given(rows=MESSY_SESSIONS)
def test_both_engines_agree_on_sessions(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("staged")
    counts, disagreements = audited(sessions_audit(), stage_sessions(folder, rows))
    assert disagreements == []
    assert counts[DAY].rows == len(rows)


MESSY_FEATURES = st.lists(
    st.builds(
        feature,
        st.sampled_from([None, "a", "b"]),
        event_timestamp=INSTANT,
        created=INSTANT,
        written_at=INSTANT,
        events_1d=st.sampled_from([None, -1, 0, 2**40]),
        value_1d=NUMBER,
    ),
    max_size=8,
)


@settings(max_examples=4, deadline=None)
@given(rows=MESSY_FEATURES)
def test_both_engines_agree_on_features(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("staged")
    paths = stage_features(folder, rows)
    counts, disagreements = audited(features_audit(pq.read_schema(paths[DAY])), paths)
    assert disagreements == []
    assert counts[DAY].broken.get("events_1d_at_least", 0) == sum(
        row["events_1d"] == -1 for row in rows
    )


def test_a_rule_whose_two_sides_differ_is_found_out(tmp_path):
    audit = events_audit(SHOP)
    rules = [r for r in audit.rules if r.name != "value_at_most"]
    (rule,) = (r for r in audit.rules if r.name == "value_at_most")
    wrong = dataclasses.replace(audit, rules=(*rules, dataclasses.replace(rule, broken="false")))
    paths = {DAY: stage_events(tmp_path, {DAY: [event("a", value=101.0)]})[DAY].path}
    _, disagreements = audited(wrong, paths)
    (sentence,) = disagreements
    assert "finds 1 rows that break 'value_at_most', and the row rules find 0" in sentence


def test_a_day_without_rows_is_found_out_by_both(tmp_path):
    audit = dataclasses.replace(events_audit(SHOP), may_be_empty=True)
    paths = {DAY: stage_events(tmp_path, {DAY: []})[DAY].path}
    assert audited(audit, paths)[1] == []
    assert audited(events_audit(SHOP), paths)[1] == []
    with connect() as connection:
        days = AuditedDays(connection, events_audit(SHOP), paths, ZONE)
        (sentence,) = days.validate({DAY: DayCounts(rows=1)})[0]
    assert "day_has_rows" in sentence


@pytest.mark.parametrize("audit", [events_audit(SHOP), sessions_audit()])
def test_every_rule_is_an_expectation_of_the_suite(audit):
    suite = build_suite(audit, ["2026-01-05"])
    rules = {expectation.meta["rule"] for expectation in suite.expectations}
    assert rules >= {rule.name for rule in audit.rules} | {audit.unique_rule}
    assert len({rule.name for rule in audit.rules}) == len(audit.rules)
    assert ("day_has_rows" in rules) == (not audit.may_be_empty)


def test_a_session_closes_in_its_day_and_at_its_end_only_if_cut(tmp_path):
    late = {"ended_at": END - HOUR, "closes_at": END}
    rows = [session("a", **late, is_cut=True), session("b", **late), session("c", closes_at=START)]
    counts, _ = audited(sessions_audit(), stage_sessions(tmp_path, rows))
    assert counts[DAY].broken == {
        "last_instant_not_less_than_closes_at": 1,
        "closes_at_not_less_than_ended_at": 1,
    }


def test_nan_beside_numbers_is_found_by_both(tmp_path):
    # Parquet's statistics leave NaN out, and what trusts them does not look for it.
    rows = [feature("a", value_1d=math.nan), feature("b", value_1d=0.0)]
    paths = stage_features(tmp_path / "features", rows)
    counts, disagreements = audited(features_audit(pq.read_schema(paths[DAY])), paths)
    assert (counts[DAY].broken, disagreements) == ({"value_1d_finite": 1}, [])
    rows = [event("a", value=math.nan), event("b", value=0.0)]
    paths = {DAY: stage_events(tmp_path / "events", {DAY: rows})[DAY].path}
    counts, disagreements = audited(events_audit(SHOP), paths)
    assert (counts[DAY].broken, disagreements) == ({"value_finite": 1, "value_at_most": 1}, [])
