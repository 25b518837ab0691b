"""Features of items and of latest sessions are what plain counts give, in whatever ranges."""

import dataclasses
import datetime as dt
import math
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import features.behavior.ranges
from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset, load_dataset
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file, publish_table
from contracts.lake.schemas import EVENTS, FEATURE_CLOCKS, SESSIONS
from features.behavior.build import stage_features
from features.behavior.tables import (
    FEATURE_TABLES,
    ITEMS,
    LATEST_SESSION,
    FeatureTable,
    feature_tables,
)
from tests.builders.datasets import dataset_like
from tests.builders.events import Event, Midnights, publish_events, publish_sessions
from tests.features.behavior.test_behavior import (
    ACTIONS,
    DAYS,
    START,
    _hours,
    _ratio,
    _read,
    publish_all,
    random_log,
    shop,
)

BOTH = [ITEMS, LATEST_SESSION]
NAMES = [table.name for table in BOTH]


def expected_items(dataset: Dataset, lake: Lake, midnights: Midnights) -> dict:
    """Returns (day, item) -> feature -> value."""
    events = [row for day in midnights.days for row in _read(lake, "events", day, EVENTS)]
    sessions = [row for day in midnights.days for row in _read(lake, "sessions", day, SESSIONS)]
    longest, rows = max(dataset.features.windows), {}
    for day in DAYS:
        for item in {event["item_id"] for event in events} - {None}:
            mine = [event for event in events if event["item_id"] == item]
            held = [session for session in sessions if item in session["item_ids"]]
            active = {row["day"] for row in mine + held}
            if any(0 <= (day - other).days <= longest for other in active):
                row = {}
                for w in dataset.features.windows:
                    row |= _of_item(w, _within(mine, day, w), _within(held, day, w))
                ends, last = midnights.end_of(day), _within(mine, day, longest)
                row["item_hours_since_last_event"] = _hours([e["timestamp"] for e in last], ends)
                for a in ACTIONS:
                    times = [e["timestamp"] for e in last if e["action"] == a]
                    row[f"item_hours_since_last_{a}"] = _hours(times, ends)
                if len(dataset.features.windows) > 1:
                    short, long = sorted(dataset.features.windows)[-2:]
                    usual = len(_within(mine, day, long)) / long
                    recent = len(_within(mine, day, short)) / short
                    row[f"item_events_trend_{short}d_{long}d"] = recent / usual if usual else None
                rows[day, item] = row
    return rows


def _within(rows: list[dict], day: dt.date, w: int) -> list[dict]:
    return [row for row in rows if 0 <= (day - row["day"]).days < w]


def _of_item(w: int, events: list[dict], sessions: list[dict]) -> dict:
    values = [event["value"] for event in events if event["value"] is not None]
    counts = {a: sum(e["action"] == a for e in events) for a in ACTIONS}
    users = {event["user_id"] for event in events}
    buyers = {event["user_id"] for event in events if event["action"] == "purchase"}
    others = sum(len(set(session["item_ids"]) - {None}) - 1 for session in sessions)
    return {
        f"item_events_{w}d": len(events),
        **{f"item_{a}_{w}d": count for a, count in counts.items()},
        f"item_users_{w}d": len(users),
        f"item_active_days_{w}d": len({event["day"] for event in events}),
        f"item_sessions_{w}d": len(sessions),
        f"item_co_items_mean_{w}d": _ratio(others, len(sessions)),
        f"item_value_sum_{w}d": math.fsum(values),
        f"item_value_mean_{w}d": _ratio(math.fsum(values), len(values)),
        f"item_purchase_per_search_{w}d": _ratio(counts["purchase"], counts["search"]),
        f"item_purchase_per_view_{w}d": _ratio(counts["purchase"], counts["view"]),
        f"item_purchase_users_{w}d": len(buyers),
        f"item_purchase_user_share_{w}d": _ratio(len(buyers), len(users)),
    }


def expected_sessions(dataset: Dataset, lake: Lake, midnights: Midnights) -> dict:
    """Returns (day, user) -> feature -> value."""
    sessions = [row for day in midnights.days for row in _read(lake, "sessions", day, SESSIONS)]
    longest, rows = max(dataset.features.windows), {}
    for day in DAYS:
        for user in {session["user_id"] for session in sessions}:
            mine = [session for session in sessions if session["user_id"] == user]
            if any(0 <= (day - session["day"]).days <= longest for session in mine):
                there = _within(mine, day, longest)
                last = max(there, key=lambda s: (s["ended_at"], s["session_id"]), default=None)
                rows[day, user] = _of_session(last, midnights.end_of(day))
    return rows


def _of_session(session: dict | None, ends: dt.datetime) -> dict:
    if session is None:
        return dict.fromkeys(_of_session(NO_SESSION, ends))
    items = [item for item in session["item_ids"] if item is not None]
    return {
        "last_session_events": session["length"],
        "last_session_seconds": session["duration_seconds"],
        "last_session_items": len(set(items)),
        **{f"last_session_{a}": session["actions"].count(a) for a in ACTIONS},
        "last_session_value": session["value"],
        "last_session_first_action": session["actions"][0],
        "last_session_last_action": session["actions"][-1],
        "last_session_last_item": items[-1] if items else None,
        "hours_since_last_session": _hours([session["ended_at"]], ends),
    }


NO_SESSION = {
    "length": 0,
    "duration_seconds": 0,
    "item_ids": [],
    "actions": [""],
    "value": 0,
    "ended_at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
}
EXPECTED: dict[str, Callable[[Dataset, Lake, Midnights], dict]] = {
    ITEMS.name: expected_items,
    LATEST_SESSION.name: expected_sessions,
}


def rows_of(table: FeatureTable, staged: dict[dt.date, Path]) -> dict:
    return {
        (day, row[table.key]): row | {"written_at": None}
        for day, path in staged.items()
        for row in pq.read_table(path).to_pylist()
    }


@pytest.mark.parametrize("table", BOTH, ids=NAMES)
@settings(max_examples=2)
@given(
    rng=st.randoms(use_true_random=False),
    windows=st.sampled_from([[1, 2, 5], [3], [1, 7, 30]]),
    zone=st.sampled_from(["Europe/Berlin", "UTC"]),
)
def test_every_feature_is_what_a_plain_count_gives(
    tmp_path_factory: pytest.TempPathFactory,
    table: FeatureTable,
    rng: random.Random,
    windows: list,
    zone: str,
) -> None:
    folder = tmp_path_factory.mktemp("features")
    lake, dataset, midnights = Lake(folder / "lake"), shop(windows, zone), Midnights(START, zone)
    publish_all(dataset, lake, random_log(rng, midnights), midnights)
    built = rows_of(table, stage_features(dataset, lake, DAYS, folder, table))
    expected = EXPECTED[table.name](dataset, lake, midnights)
    assert built.keys() == expected.keys()
    clocks = {field.name for field in FEATURE_CLOCKS} | {table.key}
    for key, values in expected.items():
        assert built[key].keys() - clocks == values.keys()
        for name, value in values.items():
            is_number = isinstance(value, int | float)
            wanted = pytest.approx(value, rel=1e-9, abs=1e-6) if is_number else value
            assert built[key][name] == wanted, (key, name)


@pytest.mark.parametrize("table", BOTH, ids=NAMES)
def test_any_ranges_give_the_same_rows_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: FeatureTable
) -> None:
    lake, dataset = Lake(tmp_path / "lake"), shop([1, 4])
    midnights = Midnights(START, dataset.timezone)
    publish_all(dataset, lake, random_log(random.Random(5), midnights), midnights)
    whole = rows_of(table, stage_features(dataset, lake, DAYS, tmp_path / "whole", table))
    parts = {}
    for days in ([DAYS[7]], DAYS[3:6], [DAYS[9], *DAYS[12:]]):
        parts |= rows_of(table, stage_features(dataset, lake, days, tmp_path / "parts", table))
    monkeypatch.setattr(features.behavior.ranges, "CHUNK_ROWS", 60)
    assert whole == rows_of(table, stage_features(dataset, lake, DAYS, tmp_path / "c", table))
    assert parts == {k: row for k, row in whole.items() if k[0] in {day for day, _ in parts}}
    assert len(parts) > 20


NOON = dt.datetime.combine(START, dt.time(12), dt.UTC)
MIDNIGHTS = Midnights(START, "UTC")
BOUGHT = Event("ann", NOON + dt.timedelta(minutes=1), "2", "purchase", "i1", 20.0)
KEYS = {ITEMS.name: "i1", LATEST_SESSION.name: "ann"}


def publish_log(dataset: Dataset, lake: Lake, log: list[Event]) -> None:
    for day in DAYS[:3]:
        publish_table(lake, EVENTS.empty_table(), lake.day("events", day))
    publish_events(lake, log, MIDNIGHTS)
    publish_sessions(dataset, lake, DAYS[:3])


def publish(dataset: Dataset, lake: Lake, table: FeatureTable) -> pa.Table:
    """Builds and publishes three days, and returns the rows of the first."""
    with lake.staging() as folder:
        for day, path in stage_features(dataset, lake, DAYS[:3], folder, table).items():
            publish_file(path, lake.day(table.name, day))
    return pq.read_table(lake.day(table.name, START))


@pytest.mark.parametrize("table", BOTH, ids=NAMES)
def test_late_events_add_a_row_and_keep_what_was_known_and_no_news_change_nothing(
    tmp_path: Path, table: FeatureTable
) -> None:
    lake, dataset = Lake(tmp_path / "lake"), shop([1, 3], "UTC")
    publish_log(dataset, lake, [Event("ann", NOON, "1", "view", "i1", 5.0)])
    first = publish(dataset, lake, table)
    files = [lake.day(table.name, day).read_bytes() for day in DAYS[:3]]
    assert publish(dataset, lake, table) == first
    assert [lake.day(table.name, day).read_bytes() for day in DAYS[:3]] == files

    publish_log(dataset, lake, [Event("ann", NOON, "1", "view", "i1", 5.0), BOUGHT])
    corrected = publish(dataset, lake, table)
    publish_log(dataset, lake, [])
    gone = publish(dataset, lake, table).to_pylist()
    assert gone[:2] == corrected.to_pylist()
    assert gone[:1] == first.to_pylist()
    assert {row[table.key] for row in gone} == {KEYS[table.name]}
    assert gone[0]["created"] < gone[1]["created"] < gone[2]["created"]
    goals = {ITEMS.name: "item_purchase_3d", LATEST_SESSION.name: "last_session_purchase"}
    nothing = {ITEMS.name: 0, LATEST_SESSION.name: None}[table.name]
    assert [row[goals[table.name]] for row in gone] == [0, 1, nothing]


def test_who_falls_silent_has_no_latest_session_and_no_zero_that_nobody_counted(
    tmp_path: Path,
) -> None:
    lake, dataset = Lake(tmp_path / "lake"), shop([1, 2], "UTC")
    publish_all(dataset, lake, [Event("ann", NOON, "1")], MIDNIGHTS)
    staged = stage_features(dataset, lake, DAYS[:5], tmp_path, LATEST_SESSION)
    rows = [pq.read_table(staged[day]).to_pylist() for day in DAYS[:5]]
    assert [[row["last_session_purchase"] for row in of_day] for of_day in rows] == [
        [0],
        [0],
        [None],
        [],
        [],
    ]
    clocks = {field.name for field in FEATURE_CLOCKS} | {"user_id"}
    assert {rows[2][0][name] for name in rows[2][0].keys() - clocks} == {None}


def test_a_rebuild_reads_the_state_of_a_day_again_only_where_its_sessions_changed(
    tmp_path: Path,
) -> None:
    lake, dataset = Lake(tmp_path / "lake"), shop([1, 3], "UTC")
    log = [dataclasses.replace(BOUGHT, timestamp=NOON + dt.timedelta(days=n)) for n in range(3)]
    publish_log(dataset, lake, log)
    publish(dataset, lake, ITEMS)
    state = {day: lake.day(ITEMS.state, day).stat().st_mtime_ns for day in lake.days(ITEMS.state)}
    assert list(state) == DAYS[:3]
    publish_events(lake, [log[1], dataclasses.replace(log[1], event_id="3")], MIDNIGHTS)
    publish(dataset, lake, ITEMS)
    changed = {d for d in state if lake.day(ITEMS.state, d).stat().st_mtime_ns != state[d]}
    assert changed == {DAYS[1]}


def test_a_data_set_has_item_features_where_its_events_have_items() -> None:
    def names(**changes: object) -> list[str]:
        return [table.entity for table in feature_tables(dataset_like("shop", **changes))]

    no_items = shop([1]).events.model_dump() | {"item_id": None}
    assert names() == ["user", "user", "item"]
    assert names(events=no_items) == ["user", "user"]
    assert names(features={"items": False, "latest_session": False}) == ["user"]


def test_two_features_of_one_name_are_refused_with_the_name() -> None:
    dataset = dataset_like("shop", actions=["users", "view"], features={}, tasks=[])
    with pytest.raises(FootpathError, match="two behavior features are named 'item_users_1d'"):
        ITEMS.fields(dataset)


def test_measures_of_sessions_are_known_by_their_names():
    """So that their origins are told without the engine, which takes seconds to load."""
    dataset = load_dataset("shop")
    for table in FEATURE_TABLES.values():
        named = ("session", "day_gap", "first_start", "last_end")
        assert all(name.startswith(named) for name in table.session_columns(dataset))
        assert not any(name.startswith(named) for name in table.event_columns(dataset))
