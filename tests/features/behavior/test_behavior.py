"""Behavior features are what their descriptions say, in whatever ranges they are built."""

import datetime as dt
import math
import random
from collections import Counter
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
from contracts.lake.schemas import EVENTS, FEATURE_CLOCKS, SESSIONS
from features.behavior.build import feature_fields, feature_schema, stage_features
from tests.builders.datasets import dataset_like
from tests.builders.events import Event, Midnights, publish_events, publish_items, publish_sessions

START = dt.date(2026, 3, 25)  # in Berlin, 29 March has 23 hours
DAYS = [START + dt.timedelta(days=n) for n in range(20)]
ACTIONS = ["search", "view", "purchase"]
CATEGORIES = ["shoes", "Déjà vu & more"]
CATALOG = {"i1": "shoes", "i2": "shoes", "i3": "Déjà vu & more", "i4": "rare", "i5": None, "i6": ""}


def shop(windows: list[int], timezone: str = "Europe/Berlin") -> Dataset:
    return dataset_like(
        "shop",
        timezone=timezone,
        actions=ACTIONS,
        features={"windows": windows, "delay_minutes": 90, "categories": CATEGORIES},
    )


def publish_catalog(lake: Lake) -> None:
    publish_items(lake, [(item, None, category, None) for item, category in CATALOG.items()])


def random_log(rng: random.Random, midnights: Midnights) -> list[Event]:
    """Users who come once, often, and back after a long silence; some events at midnight."""
    first = midnights.days.index(START)
    log = []
    for user in range(6):
        for number in range(rng.choice([1, 3, 12])):
            midnight = midnights.starts[first + rng.choice([0, 1, 4, 5, 12, rng.randrange(16)])]
            into = dt.timedelta(seconds=rng.choice([0, -1, 600, rng.randrange(86_000)]))
            log.append(
                Event(
                    user_id=f"u{user}",
                    timestamp=midnight + into,
                    event_id=f"{number:04}",
                    action=rng.choice(ACTIONS),
                    item_id=rng.choice([None, "i1", "i2", "i3", "i4", "i5", "i6", "not in it"]),
                    value=rng.choice([None, 0.1, 19.99, -3.0]),
                )
            )
    return log


def publish_all(dataset: Dataset, lake: Lake, log: list[Event], midnights: Midnights) -> None:
    publish_catalog(lake)
    publish_events(lake, log, midnights)
    publish_sessions(dataset, lake, [START - dt.timedelta(days=1), *DAYS])


# --- The definition of every feature, once more, in plain Python ------------------------------


def expected_rows(dataset: Dataset, lake: Lake, midnights: Midnights, days: list) -> dict:
    """Returns (day, user) -> feature -> value."""
    events = [row for day in midnights.days for row in _read(lake, "events", day, EVENTS)]
    sessions = [row for day in midnights.days for row in _read(lake, "sessions", day, SESSIONS)]
    longest = dt.timedelta(days=max(dataset.features.windows))
    rows = {}
    for day in days:
        for user in {row["user_id"] for row in events}:
            its_events = [row for row in events if row["user_id"] == user]
            its_sessions = [row for row in sessions if row["user_id"] == user]
            active = {row["day"] for row in its_events + its_sessions}
            if any(day - longest <= other <= day for other in active):
                ends = midnights.end_of(day)
                rows[day, user] = _expected(dataset, its_events, its_sessions, day, ends)
    return rows


def _read(lake: Lake, table: str, day: dt.date, schema: pa.Schema) -> list[dict]:
    path = lake.day(table, day)
    return [row | {"day": day} for row in pq.read_table(path).to_pylist()] if path.exists() else []


def _expected(dataset, all_events, all_sessions, day: dt.date, ends: dt.datetime) -> dict:
    row = {}
    for w in dataset.features.windows:
        since = day - dt.timedelta(days=w - 1)
        events = [event for event in all_events if since <= event["day"] <= day]
        sessions = [session for session in all_sessions if since <= session["day"] <= day]
        row |= _of_window(w, events, sessions)
        if w == max(dataset.features.windows):
            row |= _of_longest(w, events, ends)
    return row


def _of_window(w: int, events: list[dict], sessions: list[dict]) -> dict:
    values = [event["value"] for event in events if event["value"] is not None]
    seconds = sum(session["duration_seconds"] for session in sessions)
    return {
        f"events_{w}d": len(events),
        **{f"{a}_{w}d": sum(e["action"] == a for e in events) for a in ACTIONS},
        f"items_{w}d": len({e["item_id"] for e in events} - {None}),
        f"categories_{w}d": len(set(_categories(events))),
        f"active_days_{w}d": len({e["day"] for e in events}),
        f"value_sum_{w}d": math.fsum(values),
        f"value_mean_{w}d": _ratio(math.fsum(values), len(values)),
        f"sessions_{w}d": len(sessions),
        f"session_length_mean_{w}d": _ratio(sum(s["length"] for s in sessions), len(sessions)),
        f"session_seconds_mean_{w}d": _ratio(seconds, len(sessions)),
    }


def _of_longest(w: int, events: list[dict], ends: dt.datetime) -> dict:
    times = {a: [e["timestamp"] for e in events if e["action"] == a] for a in ACTIONS}
    categories = _categories(events)
    shares = [n / len(categories) for n in Counter(categories).values()]
    return {
        "hours_since_last_event": _hours([e["timestamp"] for e in events], ends),
        **{f"hours_since_last_{a}": _hours(times[a], ends) for a in ACTIONS},
        **{f"{a}_share_{w}d": _ratio(len(times[a]), len(events)) for a in ACTIONS},
        f"purchase_per_search_{w}d": _ratio(len(times["purchase"]), len(times["search"])),
        f"purchase_per_view_{w}d": _ratio(len(times["purchase"]), len(times["view"])),
        f"category_entropy_{w}d": -sum(p * math.log(p) for p in shares) if shares else None,
        f"category_share_shoes_{w}d": _ratio(categories.count("shoes"), len(categories)),
        f"category_share_deja_vu_more_{w}d": _ratio(
            categories.count(CATEGORIES[1]), len(categories)
        ),
    }


def _categories(events: list[dict]) -> list[str]:
    found = (CATALOG.get(event["item_id"]) for event in events)
    return [category for category in found if category]


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _hours(instants: list[dt.datetime], ends: dt.datetime) -> float | None:
    return (ends - max(instants)).total_seconds() / 3600 if instants else None


# --- Properties ------------------------------------------------------------------------------


def rows_of(staged: dict[dt.date, Path]) -> dict:
    return {
        (day, row["user_id"]): row
        for day, path in staged.items()
        for row in pq.read_table(path).to_pylist()
    }


def assert_equal_rows(built: dict, expected: dict) -> None:
    assert built.keys() == expected.keys()
    names = {field.name for field in FEATURE_CLOCKS} | {"user_id"}
    for key, values in expected.items():
        assert built[key].keys() - names == values.keys()
        for name, value in values.items():
            wanted = value if value is None else pytest.approx(value, rel=1e-9, abs=1e-6)
            assert built[key][name] == wanted, (key, name)


@settings(max_examples=4)
@given(
    rng=st.randoms(use_true_random=False),
    windows=st.sampled_from([[1, 2, 5], [3], [1, 7, 30]]),
    zone=st.sampled_from(["Europe/Berlin", "UTC"]),
)
def test_every_feature_is_what_a_plain_count_gives(
    tmp_path_factory: pytest.TempPathFactory, rng: random.Random, windows: list, zone: str
) -> None:
    folder = tmp_path_factory.mktemp("features")
    lake, dataset, midnights = Lake(folder / "lake"), shop(windows, zone), Midnights(START, zone)
    publish_all(dataset, lake, random_log(rng, midnights), midnights)
    built = rows_of(stage_features(dataset, lake, DAYS, folder))
    assert_equal_rows(built, expected_rows(dataset, lake, midnights, DAYS))


def test_any_ranges_give_the_same_rows_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, dataset = Lake(tmp_path / "lake"), shop([1, 4])
    midnights = Midnights(START, dataset.timezone)
    publish_all(dataset, lake, random_log(random.Random(5), midnights), midnights)
    whole = rows_of(stage_features(dataset, lake, DAYS, tmp_path / "whole"))
    parts = {}
    for days in ([DAYS[7]], DAYS[3:6], [DAYS[9], DAYS[2], *DAYS[12:]]):
        parts |= rows_of(stage_features(dataset, lake, days, tmp_path / "parts"))
    monkeypatch.setattr(features.behavior.ranges, "CHUNK_ROWS", 60)
    chunks = rows_of(stage_features(dataset, lake, DAYS, tmp_path / "chunks"))

    def told(rows: dict) -> dict:
        return {key: row | {"written_at": None} for key, row in rows.items()}

    assert told(chunks) == told(whole)
    assert told(parts) == {
        k: row for k, row in told(whole).items() if k[0] in {d for d, _ in parts}
    }
    assert len(parts) > 20


def test_a_user_who_falls_silent_leaves_one_row_of_counts_zero_and_nothing_else(
    tmp_path: Path,
) -> None:
    lake, dataset = Lake(tmp_path / "lake"), shop([1, 3], "UTC")
    noon = dt.datetime.combine(START, dt.time(12), dt.UTC)
    publish_all(dataset, lake, [Event("ann", noon, "1")], Midnights(START, "UTC"))
    staged = stage_features(dataset, lake, DAYS[:6], tmp_path)
    counts = [pq.read_table(staged[day])["events_3d"].to_pylist() for day in DAYS[:6]]
    assert counts == [[1], [1], [1], [0], [], []]
    [row] = pq.read_table(staged[DAYS[3]]).to_pylist()
    counts = [f.name for f in feature_fields(dataset) if f.kind == "int64" or "sum" in f.name]
    others = row.keys() - {"user_id", *counts, *(f.name for f in FEATURE_CLOCKS)}
    assert {row[name] for name in counts} == {0}
    assert {row[name] for name in others} == {None}
    assert {"hours_since_last_event", "value_mean_1d", "view_share_3d"} < others


def test_a_row_says_when_its_window_ended_and_when_it_would_have_been_known(
    tmp_path: Path,
) -> None:
    lake, dataset = Lake(tmp_path / "lake"), shop([1])
    berlin_noon = dt.datetime(2026, 3, 29, 10, tzinfo=dt.UTC)
    publish_all(dataset, lake, [Event("ann", berlin_noon, "1")], Midnights(START, "Europe/Berlin"))
    before = dt.datetime.now(dt.UTC)
    day = dt.date(2026, 3, 29)
    [row] = pq.read_table(stage_features(dataset, lake, [day], tmp_path)[day]).to_pylist()
    assert row["event_timestamp"] == dt.datetime(2026, 3, 29, 22, tzinfo=dt.UTC)
    assert row["created"] == dt.datetime(2026, 3, 29, 23, 30, tzinfo=dt.UTC)
    assert before <= row["written_at"] <= dt.datetime.now(dt.UTC)
    assert row["hours_since_last_event"] == 12


def test_the_files_have_the_declared_columns_even_without_a_row(tmp_path: Path) -> None:
    lake, dataset = Lake(tmp_path / "lake"), shop([1, 7])
    publish_catalog(lake)
    [path] = stage_features(dataset, lake, [START], tmp_path).values()
    schema = feature_schema(feature_fields(dataset))
    assert pq.read_table(path).equals(schema.empty_table())
    assert schema.names[:4] == ["user_id", "event_timestamp", "created", "written_at"]
    assert not any(field.nullable for field in schema if field.type != pa.float64())
    assert [f.name for f in schema if not f.nullable and f.type == pa.float64()] == [
        "value_sum_1d",
        "value_sum_7d",
    ]


def test_a_data_set_without_catalog_or_second_action_has_no_such_features() -> None:
    plain = dataset_like("ml-100k", items=None, features={})
    names = {field.name for field in feature_fields(plain)}
    assert "events_7d" in names
    assert not [name for name in names if "category" in name or "categories" in name]
    assert not [name for name in names if "rate" in name]


@pytest.mark.parametrize("name", ["shop", "ml-100k"])
def test_every_field_has_a_name_of_its_own_a_kind_and_a_sentence(name: str) -> None:
    fields = feature_fields(load_dataset(name))
    assert len({field.name for field in fields}) == len(fields) > 30
    assert all(field.name.isidentifier() and field.name.islower() for field in fields)
    assert {field.kind for field in fields} == {"int64", "float64", "string"}
    assert all(len(field.description) > 10 for field in fields)


def test_an_action_that_is_named_like_a_feature_is_refused() -> None:
    with pytest.raises(FootpathError, match=r"shop.*two.*'sessions_1d'.*`actions`"):
        feature_fields(dataset_like("shop", actions=["view", "sessions"], features={}))


def test_a_missing_catalog_is_one_clear_sentence(tmp_path: Path) -> None:
    lake, dataset = Lake(tmp_path / "lake"), shop([1])
    noon = dt.datetime.combine(START, dt.time(12), dt.UTC)
    publish_events(lake, [Event("ann", noon, "1")], Midnights(START, dataset.timezone))
    with pytest.raises(FootpathError, match=r"items\.parquet is not there.*materialize items"):
        stage_features(dataset, lake, [START], tmp_path)
