"""Every kind of declared feature is what a plain count gives, in whatever days it is built."""

import datetime as dt
import random
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import features.behavior.ranges
from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset, load_dataset
from contracts.config.feature_list import Declared
from contracts.lake.layout import Lake
from contracts.lake.schemas import EVENTS, FEATURE_CLOCKS, SESSIONS
from features.behavior.build import feature_fields, stage_features
from features.behavior.declared import slug
from features.behavior.tables import BEHAVIOR
from tests.builders.datasets import dataset_like
from tests.builders.events import Event, Midnights, publish_events, publish_sessions
from tests.features.behavior.reference import KINDS, Log, declared_row
from tests.features.behavior.test_behavior import ACTIONS, CATALOG, CATEGORIES, publish_catalog

START = dt.date(2026, 3, 26)  # in Berlin, 29 March has 23 hours
DAYS = [START + dt.timedelta(days=n) for n in range(9)]

# One entry of every kind at least, with every statistic.
DECLARED: list[dict[str, Any]] = [
    {"kind": "count", "action": "view", "windows": [2]},
    {"kind": "count", "category": "shoes"},
    {"kind": "count", "action": "view", "category": "Déjà vu & more"},
    {"kind": "distinct", "of": "items", "windows": [1, 5]},
    {"kind": "distinct", "of": "items", "action": "view"},
    {"kind": "distinct", "of": "categories", "action": "purchase"},
    {"kind": "distinct", "of": "categories"},
    {"kind": "distinct", "of": "sessions"},
    {"kind": "distinct", "of": "active_days"},
    {"kind": "entropy", "of": "categories"},
    {"kind": "entropy", "of": "actions"},
    {"kind": "entropy", "of": "hours"},
    {"kind": "recency", "cap_days": 2},
    {"kind": "gaps"},
    {"kind": "trend", "short": 2, "long": 5},
    {"kind": "trend", "of": "view", "short": 1, "long": 5, "form": "difference"},
    {"kind": "funnel", "of": "purchase", "per": "view"},
    {"kind": "funnel", "of": "view", "per": "search", "smoothing": 2.5, "windows": [5]},
    {"kind": "top_categories", "k": 2},
    {"kind": "value", "action": "purchase", "stats": ["sum", "mean", "max", "std"]},
    {"kind": "value", "stats": ["max", "std"], "windows": [5]},
    {"kind": "sessions", "stats": ["length_mean", "length_max", "seconds_mean", "seconds_max"]},
    {"kind": "time_of_day"},
    {"kind": "weekend"},
]


def shop(zone: str = "Europe/Berlin", **more: object) -> Dataset:
    section = {"windows": [1, 2, 5], "categories": CATEGORIES, "standard": False}
    section |= {"declared": DECLARED} | more
    return dataset_like("shop", timezone=zone, actions=ACTIONS, features=section)


def random_log(rng: random.Random, midnights: Midnights) -> list[Event]:
    """Bursts and silences, around midnights and changes of the clock."""
    first, log = midnights.days.index(START), []
    for user in range(5):
        for number in range(rng.choice([1, 6, 18])):
            midnight = midnights.starts[first + rng.choice([0, 1, 2, 3, 3, 7])]
            into = dt.timedelta(seconds=rng.choice([0, -1, 3600, 7200, rng.randrange(86_000)]))
            log.append(
                Event(
                    user_id=f"u{user}",
                    timestamp=midnight + into + dt.timedelta(microseconds=rng.randrange(3)),
                    event_id=f"{number:04}",
                    action=rng.choice(ACTIONS),
                    item_id=rng.choice([None, "i1", "i2", "i3", "i4", "i5", "i6", "not in it"]),
                    value=rng.choice([None, 0.1, 19.99, -3.0]),
                )
            )
    return log


def publish(dataset: Dataset, lake: Lake, log: list[Event]) -> None:
    midnights = Midnights(START, dataset.timezone)
    publish_catalog(lake)
    publish_events(lake, log, midnights)
    publish_sessions(dataset, lake, [START - dt.timedelta(days=1), *DAYS])


def rows_of(staged: dict[dt.date, Path]) -> dict:
    """Returns (day, user) -> feature -> value."""
    clocks = {field.name for field in FEATURE_CLOCKS} | {"user_id"}
    return {
        (day, row["user_id"]): {name: row[name] for name in row if name not in clocks}
        for day, path in staged.items()
        for row in pq.read_table(path).to_pylist()
    }


def expected(dataset: Dataset, lake: Lake) -> dict:
    midnights = Midnights(START, dataset.timezone)

    def read(table: str, names: list[str]) -> list[dict]:
        return [
            row | {"day": day}
            for day in lake.days(table)
            for row in pq.read_table(lake.day(table, day), columns=names).to_pylist()
        ]

    events, sessions = read("events", EVENTS.names[:7]), read("sessions", SESSIONS.names)
    rows, longest = {}, dt.timedelta(days=max(dataset.features.windows))
    for user in {event["user_id"] for event in events}:
        its = [[r for r in table if r["user_id"] == user] for table in (events, sessions)]
        log = Log(dataset, *its, CATALOG)
        for day in DAYS:
            if any(day - longest <= row["day"] <= day for row in its[0] + its[1]):
                rows[day, user] = declared_row(dataset, log, day, midnights.end_of(day))
    return rows


def assert_equal_rows(built: dict, wanted: dict) -> None:
    assert built.keys() == wanted.keys()
    for key, row in wanted.items():
        assert built[key].keys() == row.keys()
        for name, value in row.items():
            if isinstance(value, float):
                value = pytest.approx(value, rel=1e-6, abs=2e-6)
            assert built[key][name] == value, (key, name)


@settings(max_examples=2, phases=[Phase.generate])
@given(
    rng=st.randoms(use_true_random=False),
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "UTC"]),
)
def test_every_kind_is_what_a_plain_count_gives(
    tmp_path_factory: pytest.TempPathFactory, rng: random.Random, zone: str
) -> None:
    folder = tmp_path_factory.mktemp("declared")
    lake, dataset = Lake(folder / "lake"), shop(zone)
    publish(dataset, lake, random_log(rng, Midnights(START, zone)))
    wanted = expected(dataset, lake)
    assert_equal_rows(rows_of(stage_features(dataset, lake, DAYS, folder / "range")), wanted)
    day = rng.choice(DAYS)
    alone = rows_of(stage_features(dataset, lake, [day], folder / "alone"))
    assert_equal_rows(alone, {key: row for key, row in wanted.items() if key[0] == day})


def test_the_test_has_every_kind() -> None:
    kinds = {entry.__name__ for entry in KINDS} | {"Recency", "Trend"}
    declarable = {kind.__name__ for kind in Declared.__args__[0].__args__}  # type: ignore[attr-defined]
    assert kinds == declarable
    assert {type(entry).__name__ for entry in shop().features.declared} == declarable


def test_day_by_day_in_a_range_and_by_ranges_of_users_are_equal_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = shop()
    log = random_log(random.Random(7), Midnights(START, dataset.timezone))
    lake = Lake(tmp_path / "lake")
    publish(dataset, lake, log)
    whole = stage_features(dataset, lake, DAYS, tmp_path / "whole")
    alone = rows_of(stage_features(dataset, lake, [DAYS[3]], tmp_path / "alone"))
    assert alone == {key: row for key, row in rows_of(whole).items() if key[0] == DAYS[3]}
    monkeypatch.setattr(features.behavior.ranges, "CHUNK_ROWS", 3 * len(DAYS))
    ranges = stage_features(dataset, lake, DAYS, tmp_path / "ranges")
    for day in DAYS:
        tables = [
            pq.read_table(staged[day]).drop_columns("written_at") for staged in (whole, ranges)
        ]
        assert tables[0].equals(tables[1])
        if day == DAYS[3]:
            assert pq.read_metadata(ranges[day]).num_row_groups > 1  # it was cut by users


def test_a_late_event_remakes_the_state_of_its_day_alone(tmp_path: Path) -> None:
    dataset, lake = shop(), Lake(tmp_path / "lake")
    midnights = Midnights(START, dataset.timezone)
    log = random_log(random.Random(3), midnights)
    publish(dataset, lake, log)
    stage_features(dataset, lake, DAYS, tmp_path / "before")
    times = {
        day: lake.day(BEHAVIOR.state, day).stat().st_mtime_ns for day in lake.days(BEHAVIOR.state)
    }
    late = Event("u1", midnights.starts[midnights.days.index(DAYS[2])], "late", "view", "i3", 7.0)
    published = [event for event in [*log, late] if midnights.day_of(event.timestamp) == DAYS[2]]
    publish_events(lake, published, midnights)
    after = rows_of(stage_features(dataset, lake, DAYS, tmp_path / "after"))
    changed = {d for d, t in times.items() if lake.day(BEHAVIOR.state, d).stat().st_mtime_ns != t}
    assert changed == {DAYS[2]}
    assert_equal_rows(after, expected(dataset, lake))


def test_a_state_that_is_gone_torn_down_or_of_other_columns_is_made_anew(tmp_path: Path) -> None:
    dataset, lake = shop(), Lake(tmp_path / "lake")
    publish(dataset, lake, random_log(random.Random(4), Midnights(START, dataset.timezone)))
    day = DAYS[3]
    first = rows_of(stage_features(dataset, lake, [day], tmp_path / "first"))
    narrow = shop(declared=[{"kind": "weekend"}])
    stage_features(narrow, lake, [day], tmp_path / "narrow")
    lake.day(BEHAVIOR.state, lake.days(BEHAVIOR.state)[0]).unlink()
    assert rows_of(stage_features(dataset, lake, [day], tmp_path / "again")) == first


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"kind": "count", "action": "buy"}, r"count asks for action 'buy'.*search"),
        ({"kind": "recency", "of": ["buy"]}, "recency asks for action 'buy'"),
        ({"kind": "funnel", "of": "view", "per": "view"}, "from one action to another"),
        ({"kind": "funnel", "of": "view", "per": "buy"}, "action 'buy'"),
        ({"kind": "weekend", "windows": [3]}, r"window of 3 days.*\[1, 2, 5\].*add it there"),
        ({"kind": "trend", "short": 1, "long": 30}, "window of 30 days"),
        ({"kind": "trend", "short": 5, "long": 2}, "short must be the smaller one"),
        ({"kind": "count", "category": "hats"}, r"category 'hats'.*shoes.*add it there"),
        ({"kind": "count"}, "counts all events"),
        ({"kind": "top_categories", "k": 3}, r"top 3 of 2 categories"),
        ({"kind": "distinct", "of": "sessions", "action": "view"}, "not told by action"),
        ({"kind": "time_of_day", "parts": {"late": [22, 4]}}, "past midnight as two parts"),
        ({"kind": "value", "stats": ["median"]}, "'sum', 'mean', 'max' or 'std'"),
        ({"kind": "frequency"}, "'count', 'distinct'"),
    ],
)
def test_a_declaration_that_cannot_be_made_is_one_sentence(entry: dict, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence) as caught:
        shop(declared=[entry])
    assert caught.value.error_count() == 1


def test_categories_without_a_catalog_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"entropy.*needs categories: map `items\.category`"):
        dataset_like(
            "ml-100k", items=None, features={"declared": [{"kind": "entropy", "of": "categories"}]}
        )


def test_what_is_declared_and_standard_is_one_column() -> None:
    plain = dataset_like("shop", features={"windows": [1, 7]})
    declared = [
        {"kind": "count", "action": "view"},
        {"kind": "distinct", "of": "items"},
        {"kind": "distinct", "of": "active_days"},
        {"kind": "sessions"},
        {"kind": "value"},
        {"kind": "funnel", "of": "purchase", "per": "view", "windows": [7]},
        {"kind": "entropy", "of": "categories", "windows": [7]},
    ]
    both = dataset_like("shop", features={"windows": [1, 7], "declared": declared})
    assert feature_fields(both) == feature_fields(plain)


def test_two_features_of_one_name_are_refused() -> None:
    parts = [{"kind": "time_of_day", "parts": {"view": [0, 6]}, "windows": [5]}]
    dataset = shop(standard=True, declared=parts)
    with pytest.raises(FootpathError, match=r"shop.*two.*'view_share_5d'.*`features.declared`"):
        feature_fields(dataset)


def test_standard_features_keep_their_names() -> None:
    names = [field.name for field in feature_fields(dataset_like("ml-100k", features={}))]
    stems = ["events", "items", "categories", "active_days", "value_sum", "value_mean", "sessions"]
    stems += ["session_length_mean", "session_seconds_mean"]
    assert names == [
        *(f"{stem}_{days}d" for days in (1, 7, 30) for stem in stems),
        "hours_since_last_event",
        "category_entropy_30d",
    ]
    assert not load_dataset("ml-100k").features.declared or feature_fields(load_dataset("ml-100k"))


def test_categories_of_any_script_have_columns_of_their_own() -> None:
    names = ["日本", "中国", "Книги", "Größe", "déjà vu", "***", "books"]
    assert len({slug(name) for name in names}) == len(names)
    assert all(re.fullmatch("[a-z0-9_]+", slug(name)) for name in names)
    assert slug("déjà vu") == "deja_vu"
    assert slug("books & more") == "books_more"


def test_sessions_of_the_source_that_overlap_have_no_pause_between_them(lake_home, tmp_path):
    gaps = {"kind": "gaps", "stats": ["mean", "last"], "windows": [1]}
    given = load_dataset("shop").model_dump()
    dataset = dataset_like(
        "shop",
        timezone="UTC",
        actions=ACTIONS,
        features={"windows": [1], "standard": False, "declared": [gaps]},
        sessions={"by": "source", "open_minutes": 60},
        events=given["events"] | {"session_id": "query"},
    )
    ten = dt.datetime.combine(START, dt.time(10), dt.UTC)
    minutes = [(0, "a"), (10, "b"), (12, "b"), (20, "a"), (60, "c"), (60, "d")]
    log = [
        Event("u", ten + dt.timedelta(minutes=m), f"{n}", session_id=source)
        for n, (m, source) in enumerate(minutes)
    ]
    lake = Lake.of("shop")
    publish(dataset, lake, log)
    row = rows_of(stage_features(dataset, lake, [START], tmp_path))[START, "u"]
    # From the end of a and b to c are 40 minutes; b and a overlap, and so do c and d.
    assert row == {"gap_seconds_mean_1d": 800.0, "gap_seconds_last_1d": 0}
