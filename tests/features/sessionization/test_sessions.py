"""Daily sessions, in whatever order they are built, are the sessions of the whole log."""

import datetime as dt
import itertools
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import features.sessionization.session_pass
import features.sessionization.sessions
import features.sessionization.sorted_rows
from contracts.base.errors import FootpathError
from contracts.config.dataset import load_dataset
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from contracts.lake.schemas import EVENTS, SESSIONS
from features.sessionization.sessions import stage_sessions
from tests.builders.datasets import dataset_like
from tests.builders.events import Event, Midnights, place_of, publish_events

SHOP_EVENTS = load_dataset("shop").events.model_dump()
SECOND = dt.timedelta(seconds=1)
MICROSECOND = dt.timedelta(microseconds=1)

# Clocks that change within the days below, and a zone that left out a whole day.
PLACES = [
    ("UTC", dt.date(2026, 3, 28)),
    ("Europe/Berlin", dt.date(2026, 3, 28)),  # 29 March has 23 hours
    ("Europe/Berlin", dt.date(2025, 10, 25)),  # 26 October has 25
    ("America/Sao_Paulo", dt.date(2018, 11, 3)),  # 4 November has no midnight
    ("Pacific/Apia", dt.date(2011, 12, 29)),  # 30 December never was
]


# --- The rule, once more, over a whole log and in plain Python --------------------------------


def one_shot(
    events: list[Event], gap: dt.timedelta, midnights: Midnights, opens: dt.timedelta | None = None
) -> set[tuple]:
    """Returns (day, user, start, end, closing instant, is cut, actions, items) of all sessions.

    With `opens`, those of one user and session id are a log of their own, with it for the gap.
    """
    logs = defaultdict(list)
    for event in sorted(events, key=place_of):
        logs[event.user_id, event.session_id if opens else None].append(event)
    sessions = set()
    for (_, source), log in logs.items():
        pause = opens if opens and source is not None else gap
        sessions |= _sessions_of_user(log, pause, midnights)
    return sessions


def _sessions_of_user(log: list[Event], gap: dt.timedelta, midnights: Midnights) -> set[tuple]:
    days = [midnights.day_of(event.timestamp) for event in log]
    joined = [
        place > 0 and log[place].timestamp - log[place - 1].timestamp <= gap
        for place in range(len(log))
    ]
    filled = set()
    for day in set(days):
        first, last = days.index(day), len(days) - 1 - days[::-1].index(day)
        if all(joined[first : last + 1]) and log[last].timestamp + gap >= midnights.end_of(day):
            filled.add(day)
    sessions, start = set(), 0
    for end in range(1, len(log) + 1):
        after_filled = end < len(log) and days[end] != days[end - 1] and days[end - 1] in filled
        if end < len(log) and joined[end] and not after_filled:
            continue
        piece, day = log[start:end], days[end - 1]
        is_cut = day in filled and (end == len(log) or days[end] != day)
        closes = midnights.end_of(day) if is_cut else piece[-1].timestamp + gap
        sessions.add(
            (
                day if is_cut else midnights.day_of(closes),
                piece[0].user_id,
                piece[0].timestamp,
                piece[-1].timestamp,
                closes,
                is_cut,
                tuple(event.action for event in piece),
                tuple(event.item_id for event in piece),
            )
        )
        start = end
    return sessions


# --- Streams that try to break it ------------------------------------------------------------


def adversarial_stream(rng: random.Random, midnights: Midnights, gap: dt.timedelta) -> Iterator:
    """Gives the instants of one user around the first days: edges, ties, bots, silences."""
    day = 60 + rng.randrange(3)
    kind = rng.choice(["edges", "bot", "steps", "random", "single", "mixed"])
    now = midnights.starts[day] + rng.choice([-gap, -SECOND, 0 * gap, MICROSECOND, gap])
    edge = [gap, gap + MICROSECOND, gap - MICROSECOND, 0 * gap]
    if kind == "single":
        yield now
        return
    for _ in range(rng.choice([2, 3, 5, 12, 40])):
        if now >= midnights.starts[60 + 10]:
            return
        yield now
        step = kind if kind != "mixed" else rng.choice(["edges", "bot", "steps", "random"])
        if step == "edges":  # to just around the next midnight, or just around one gap from it
            midnight = midnights.starts[day := day + rng.randrange(2)]
            near = rng.choice([-gap, 0 * gap, gap]) + rng.choice([-1, 0, 0, 1]) * MICROSECOND
            now = max(now, midnight + near)
        elif step == "bot":
            now += gap * rng.choice([0.5, 0.9, 1])
        elif step == "steps":
            now += rng.choice(edge)
        else:
            now += gap * min(rng.expovariate(0.5), 9)
        day = max(day, midnights.index_of(now))


def log_of(streams: list[list[dt.datetime]], rng: random.Random, days: range, midnights) -> list:
    """Makes events of instants; every item is another one, so that an event can be told."""
    first, last = midnights.starts[60 + days.start], midnights.starts[60 + days.stop]
    serial = itertools.count()
    return [
        Event(
            user_id=f"u{user}",
            timestamp=instant,
            event_id=f"{rng.getrandbits(64):x}",
            action=rng.choice(["view", "purchase"]),
            item_id=rng.choice([f"i{next(serial)}"] * 9 + [None]),
            value=rng.choice([None, 0.1, 0.2, 19.99]),
        )
        for user, instants in enumerate(streams)
        for instant in instants
        if first <= instant < last
    ]


# --- The property ----------------------------------------------------------------------------


def built(lake: Lake, dataset, parts: list[list[dt.date]], folder: Path) -> list[dict]:
    """Builds the days part by part and returns all rows, each with its day."""
    rows = []
    for number, days in enumerate(parts):
        staged = stage_sessions(dataset, lake, days, folder / str(number))
        assert sorted(staged) == sorted(days)
        for day, path in staged.items():
            table = pq.read_table(path)
            assert table.schema.equals(SESSIONS)
            rows += [row | {"day": day} for row in table.to_pylist()]
    return rows


def parts_of(days: list[dt.date], rng: random.Random, most: int) -> list[list[dt.date]]:
    """Cuts days into at most so many parts, ranges or arbitrary sets, in any order."""
    days = list(days)
    if rng.random() < 0.3:
        rng.shuffle(days)
    cuts = sorted(rng.sample(range(1, len(days)), rng.randrange(most)))
    parts = [days[a:b] for a, b in itertools.pairwise([0, *cuts, len(days)])]
    rng.shuffle(parts)
    return parts


def assert_daily_equals_one_shot(
    folder: Path,
    rng: random.Random,
    place: tuple,
    gap_minutes: int,
    streams: int,
    parts: int,
    open_minutes: int | None = None,
) -> None:
    timezone, day = place
    midnights, gap = Midnights(day, timezone), dt.timedelta(minutes=gap_minutes)
    opens = dt.timedelta(minutes=open_minutes) if open_minutes else None
    how = {"by": "source", "open_minutes": open_minutes} if opens else {}
    dataset = dataset_like(
        "shop",
        timezone=timezone,
        sessions=how | {"gap_minutes": gap_minutes},
        events=SHOP_EVENTS | {"session_id": "query"},
    )
    lake = Lake(folder / "lake")
    users = [list(adversarial_stream(rng, midnights, opens or gap)) for _ in range(streams)]
    log = log_of(users, rng, range(-2, 8), midnights)
    if opens:  # streams that overlap: a few are one user's, and one id is there all the time
        log = [
            replace(event, user_id=f"u{int(event.user_id[1:]) // 4}", session_id=source)
            for event in log
            for source in [rng.choice([None, "a-1", "a%2D1", f"s{event.user_id}", "b"])]
        ]
    publish_events(lake, log, midnights)
    days = midnights.days[60 - 2 : 60 + 8 + 3]  # what is open after the last event closes in these
    rows = built(lake, dataset, parts_of(days, rng, parts), folder)

    assert {
        (
            row["day"],
            row["user_id"],
            row["started_at"],
            row["ended_at"],
            row["closes_at"],
            row["is_cut"],
            tuple(row["actions"]),
            tuple(row["item_ids"]),
        )
        for row in rows
    } == one_shot(log, gap, midnights, opens)
    assert sum(row["length"] for row in rows) == len(log)
    assert len({row["session_id"] for row in rows}) == len(rows)
    told = [item for row in rows for item in row["item_ids"] if item]
    assert sorted(told) == sorted(event.item_id for event in log if event.item_id)


@pytest.mark.parametrize(
    ("place", "gap"),
    [(0, 30), (0, 24 * 60), (1, 30), (1, 24 * 60), (2, 600), (3, 23 * 60), (4, 24 * 60), (4, 1)],
)
def test_daily_builds_equal_the_one_shot_over_adversarial_streams(
    tmp_path: Path, place: int, gap: int
) -> None:
    rng = random.Random(1000 * gap + place)
    assert_daily_equals_one_shot(tmp_path, rng, PLACES[place], gap, streams=150, parts=3)


@pytest.mark.parametrize(
    ("way", "place", "gap", "opens"),
    [
        ("_passed", 0, 30, 24 * 60),
        ("_passed", 1, 30, 20),
        ("_passed", 2, 600, 700),
        ("_passed", 4, 24 * 60, 90),
        ("_queried", 1, 30, 600),
        ("_queried", 4, 24 * 60, 90),
    ],
)
def test_daily_sessions_of_the_source_equal_the_one_shot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, place: int, gap: int, opens: int
) -> None:
    build = getattr(features.sessionization.sessions, way)
    monkeypatch.setattr(features.sessionization.sessions, "_passed", build)
    monkeypatch.setattr(features.sessionization.sorted_rows, "BLOCK_ROWS", 50)
    rng = random.Random(1000 * gap + place)
    assert_daily_equals_one_shot(tmp_path, rng, PLACES[place], gap, 80, 2, opens)


@pytest.mark.parametrize(("place", "gap"), [(0, 30), (2, 24 * 60), (4, 24 * 60)])
def test_the_query_for_clusters_equals_the_one_shot_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int, gap: int
) -> None:
    monkeypatch.setattr(
        features.sessionization.sessions, "_passed", features.sessionization.sessions._queried
    )
    rng = random.Random(1000 * gap + place)
    assert_daily_equals_one_shot(tmp_path, rng, PLACES[place], gap, streams=200, parts=2)


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rng=st.randoms(use_true_random=False),
    place=st.sampled_from(PLACES),
    gap=st.integers(1, 1440),
)
def test_daily_builds_equal_the_one_shot_for_any_gap(
    tmp_path_factory: pytest.TempPathFactory, rng: random.Random, place: tuple, gap: int
) -> None:
    folder = tmp_path_factory.mktemp("sessions")
    assert_daily_equals_one_shot(folder, rng, place, gap, streams=5, parts=3)


# 5 places, 5 gaps, 800 streams: 20,000 in all. The days are built in up to 13 parts, in any order.
@pytest.mark.long
@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place[0]} {place[1]}")
@pytest.mark.parametrize("gap", [1, 30, 600, 23 * 60, 24 * 60])
def test_daily_builds_equal_the_one_shot_in_every_place(
    tmp_path: Path, place: tuple, gap: int
) -> None:
    rng = random.Random(f"{place}{gap}")
    assert_daily_equals_one_shot(tmp_path, rng, place, gap, streams=800, parts=13)


# --- What the property does not say ----------------------------------------------------------

DAY = dt.date(2026, 3, 10)
DAY_LONG = dt.timedelta(days=1)
NOON = dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC)


def sessions_of_log(folder: Path, log: list[Event], days: list[dt.date]) -> list[dict]:
    dataset = dataset_like("shop", timezone="UTC")
    lake = Lake(folder / "lake")
    publish_events(lake, log, Midnights(DAY, "UTC"))
    return built(lake, dataset, [days], folder)


def test_a_session_carries_its_events_in_order_with_sums_that_do_not_depend_on_it(
    tmp_path: Path,
) -> None:
    log = [
        Event("ann", NOON + 1 * SECOND, "b", "purchase", "i2", 0.1),
        Event("ann", NOON, "z", "view", "i1", 0.2),
        Event("ann", NOON + 1 * SECOND, "a", "search", None, None),
        Event("ann", NOON + 1.5 * SECOND, "c", "view", "i1", 0.3),
    ]
    [session] = sessions_of_log(tmp_path, log, [DAY])
    assert session["actions"] == ["view", "search", "purchase", "view"]
    assert session["item_ids"] == ["i1", None, "i2", "i1"]
    assert session["distinct_items"] == 2
    assert session["duration_seconds"] == 1.5
    assert session["value"] == 0.6
    assert session["closes_at"] == NOON + 1.5 * SECOND + dt.timedelta(minutes=30)


def test_sessions_of_the_source_overlap_and_have_ids_that_tell_them_apart(tmp_path: Path) -> None:
    start = round(NOON.timestamp() * 1e6)
    log = [
        Event("ann", NOON, "a", item_id="i1", session_id="phone-1"),
        Event("ann", NOON, "b", item_id="i2", session_id="phone%2D1"),
        Event("ann", NOON + 2000 * SECOND, "c", item_id="i3", session_id="phone-1"),
        Event("ann", NOON + 1 * SECOND, "d", item_id="i4"),
        Event("ann", NOON + 2000 * SECOND, "e", item_id="i5"),
    ]
    dataset = dataset_like(
        "shop",
        timezone="UTC",
        sessions={"by": "source", "open_minutes": 60},
        events=SHOP_EVENTS | {"session_id": "query"},
    )
    publish_events(Lake(tmp_path / "lake"), log, Midnights(DAY, "UTC"))
    rows = built(Lake(tmp_path / "lake"), dataset, [[DAY]], tmp_path)
    assert [(row["session_id"], row["item_ids"]) for row in rows] == [
        (f"ann-{start}-phone%252D1", ["i2"]),
        (f"ann-{start}-phone%2D1", ["i1", "i3"]),
        (f"ann-{start + 1_000_000}", ["i4"]),  # without an id, the gap of 30 minutes
        (f"ann-{start + 2_000_000_000}", ["i5"]),
    ]
    assert rows[1]["closes_at"] == NOON + 2000 * SECOND + dt.timedelta(hours=1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e300])
def test_a_value_that_is_no_sum_of_money_counts_as_zero(tmp_path: Path, bad: float) -> None:
    log = [Event("ann", NOON, "a", "view", None, bad), Event("ann", NOON, "b", "view", None, 2.5)]
    [session] = sessions_of_log(tmp_path, log, [DAY])
    assert session["value"] == 2.5


def test_session_ids_are_the_same_in_every_build(tmp_path: Path) -> None:
    log = [Event("ann", NOON, "a"), Event("bob", NOON, "a")]
    ids = {s["user_id"]: s["session_id"] for s in sessions_of_log(tmp_path, log, [DAY])}
    assert ids == {
        "ann": f"ann-{round(NOON.timestamp() * 1e6)}",
        "bob": f"bob-{round(NOON.timestamp() * 1e6)}",
    }


def test_days_without_published_events_give_empty_files(lake_home: Path, tmp_path: Path) -> None:
    staged = stage_sessions(dataset_like("shop"), Lake.of("shop"), [DAY], tmp_path)
    assert pq.read_table(staged[DAY]).equals(SESSIONS.empty_table())


def test_the_size_of_blocks_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = [NOON + dt.timedelta(hours=n / 3) for n in range(360)]
    log = [Event(f"u{n % 3}", hour, f"{n:03}", "view", f"i{n}") for n, hour in enumerate(hours)]
    days = [DAY + dt.timedelta(days=n) for n in range(6)]
    whole = sessions_of_log(tmp_path / "whole", log, days)
    for rows in (1, 7):
        monkeypatch.setattr(features.sessionization.sorted_rows, "BLOCK_ROWS", rows)
        monkeypatch.setattr(features.sessionization.session_pass, "GROUP_EVENTS", 4 * rows)
        assert sessions_of_log(tmp_path / f"blocks-{rows}", log, days) == whole


def test_sums_of_any_size_are_exact(tmp_path: Path) -> None:
    log = [
        Event("ann", NOON + n * SECOND, f"{n:03}", "view", None, 999_999_999_999.5)
        for n in range(100)
    ]
    [session] = sessions_of_log(tmp_path, log, [DAY])
    assert session["value"] == 99_999_999_999_950


@pytest.mark.parametrize("order", [["bob", "ann"], ["ann", "bob", "ann"]])
def test_events_that_are_not_sorted_are_refused(tmp_path: Path, order: list[str]) -> None:
    blank = {"action": "view", "event_id": "e", "sequence": 0}
    rows = [{"user_id": user, "timestamp": NOON} | blank for user in order]
    lake = Lake(tmp_path / "lake")
    publish_table(lake, pa.Table.from_pylist(rows, schema=EVENTS), lake.day("events", DAY))
    with pytest.raises(FootpathError, match="is not sorted by user and time"):
        stage_sessions(dataset_like("shop", timezone="UTC"), lake, [DAY], tmp_path / "staged")


def test_a_user_who_is_up_at_two_midnights_is_not_cut(tmp_path: Path) -> None:
    midnight = dt.datetime(2026, 3, 10, tzinfo=dt.UTC)
    minutes = [-10, 5, 600, 1430, 1450]  # joined to the day before, a pause, joined to the next
    log = [Event("ann", midnight + dt.timedelta(minutes=m), f"{m}") for m in minutes]
    sessions = sessions_of_log(tmp_path, log, [DAY - dt.timedelta(days=1), DAY, DAY + DAY_LONG])
    assert [(s["length"], s["is_cut"]) for s in sessions] == [(2, False), (1, False), (2, False)]
