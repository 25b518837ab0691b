"""Labels: the right answer, from the right window, for the right users."""

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.base.clock import day_window
from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from contracts.lake.schemas import USERS
from features.learning.labels import build_labels, default_as_of
from tests.builders.datasets import dataset_like
from tests.builders.events import AS_OF, BERLIN, CUTOFF, Event, labels_of, publish_events

MOMENT = dt.timedelta(microseconds=1)
WEEK = dt.timedelta(days=7)


def event(user: str, at: dt.datetime, action: str = "view", value: float | None = None) -> Event:
    return Event(user, at, f"{user}-{at.isoformat()}-{action}", action, "i1", value)


def task(name: str, sql: str | None = None, **more: object) -> dict:
    given = {"name": name, "metric": "auc"} | more
    return given | ({"sql": sql, "horizon_days": 7} if sql else {"column": name})


def prepare(events: list[Event], tasks: list[dict], users: dict[str, dict] | None = None):
    """Publishes events (and empty days up to the horizon) and users; returns data set and lake."""
    dataset = dataset_like("shop", tasks=tasks)
    lake = Lake.of("shop")
    publish_events(lake, events, BERLIN)
    for n in range(1, 8):
        path = lake.day("events", AS_OF + dt.timedelta(days=n))
        if not path.exists():
            table = pq.read_table(lake.day("events", lake.days("events")[0])).slice(0, 0)
            publish_table(lake, table, path)
    rows = [{"user_id": u, "attributes": a} for u, a in (users or {}).items()]
    publish_table(lake, pa.Table.from_pylist(rows, schema=USERS), lake.single("users"))
    return dataset, lake


BOUGHT = "count(*) FILTER (action = 'purchase') > 0"


def test_a_future_window_starts_at_the_as_of_and_ends_before_its_horizon(lake_home):
    end = day_window(AS_OF + WEEK, "Europe/Berlin")[1]
    when = {"before": CUTOFF - MOMENT, "first": CUTOFF, "last": end - MOMENT, "after": end}
    events = [event(user, CUTOFF - dt.timedelta(hours=1)) for user in when]
    events += [event(user, at, "purchase") for user, at in when.items()]
    dataset, lake = prepare(events, [task("bought", BOUGHT)])
    build_labels(dataset, lake, AS_OF)
    assert labels_of(lake, "bought") == {
        "before": "no",
        "first": "yes",
        "last": "yes",
        "after": "no",
    }
    row = pq.read_table(lake.day("labels", AS_OF)).to_pylist()[0]
    assert (row["as_of"], row["label_end"]) == (CUTOFF, end)


def test_users_without_a_past_have_no_label_and_without_a_future_the_empty_aggregate(lake_home):
    past = CUTOFF - dt.timedelta(hours=1)
    events = [event("old", past), event("buys", past), event("buys", CUTOFF, "purchase", 5.0)]
    events.append(event("new", CUTOFF, "purchase", 9.0))
    spent = task("spent", "coalesce(sum(value), 0)", kind="regression", metric="mae")
    dataset, lake = prepare(events, [task("bought", BOUGHT), spent])
    report = build_labels(dataset, lake, AS_OF)
    assert labels_of(lake, "bought") == {"old": "no", "buys": "yes"}
    assert labels_of(lake, "spent") == {"old": 0.0, "buys": 5.0}
    assert report.users == 2


def test_attributes_become_classes_in_order_and_missing_ones_no_label(lake_home):
    users = {"a": {"gender": "M"}, "b": {"gender": "F"}, "c": {}, "d": {"gender": "F"}}
    past = CUTOFF - dt.timedelta(days=1)
    dataset, lake = prepare([event(u, past) for u in "abc"], [task("gender")], users)
    report = build_labels(dataset, lake, AS_OF)
    rows = pq.read_table(lake.day("labels", AS_OF)).to_pylist()
    assert {r["user_id"]: (r["value"], r["label"]) for r in rows} == {"a": (1, "M"), "b": (0, "F")}
    assert report.classes == {"gender": {"F": 1, "M": 1}}


def test_a_user_is_in_one_split_for_every_task_and_as_of(lake_home):
    names = [f"u{n}" for n in range(3000)]
    users = {name: {"gender": "MF"[n % 2]} for n, name in enumerate(names)}
    past = CUTOFF - dt.timedelta(days=3)
    events = [event(name, past) for name in names] + [event("u1", CUTOFF, "purchase")]
    dataset, lake = prepare(events, [task("gender"), task("bought", BOUGHT)], users)
    build_labels(dataset, lake, AS_OF)
    rows = pq.read_table(lake.day("labels", AS_OF)).to_pylist()
    split = {row["user_id"]: row["split"] for row in rows}
    assert all(split[row["user_id"]] == row["split"] for row in rows)
    earlier = AS_OF - dt.timedelta(days=1)
    build_labels(dataset_like("shop", tasks=[task("gender")]), lake, earlier)
    for row in pq.read_table(lake.day("labels", earlier)).to_pylist():
        assert split[row["user_id"]] == row["split"]
    shares = [list(split.values()).count(name) / 3000 for name in ("train", "valid", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)


def test_one_class_is_left_out_with_a_warning_and_nothing_to_learn_is_a_fault(lake_home):
    past = CUTOFF - dt.timedelta(days=1)
    users = {"a": {"gender": "M"}, "b": {"gender": "F"}}
    dataset, lake = prepare(
        [event(u, past) for u in "ab"], [task("gender"), task("bought", BOUGHT)], users
    )
    (warning,) = build_labels(dataset, lake, AS_OF).warnings
    assert "task bought has the one class 'no'" in warning
    with pytest.raises(FootpathError, match="nothing to learn"):
        build_labels(dataset_like("shop", tasks=[task("bought", BOUGHT)]), lake, AS_OF)


def test_a_missing_day_of_the_horizon_and_wrong_sql_are_told_by_task(lake_home):
    past = CUTOFF - dt.timedelta(days=1)
    dataset, lake = prepare([event("a", past)], [task("bought", BOUGHT)])
    lake.day("events", AS_OF + WEEK).unlink()
    with pytest.raises(FootpathError, match=r"task bought .* events of 2026-03-17"):
        build_labels(dataset, lake, AS_OF)
    wrong = dataset_like("shop", tasks=[task("odd", "sum(nonsense)") | {"horizon_days": 1}])
    with pytest.raises(FootpathError, match=r"task odd .*`sum\(nonsense\)`.*nonsense"):
        build_labels(wrong, lake, AS_OF)


def test_the_default_as_of_leaves_every_horizon(lake_home):
    past = CUTOFF - dt.timedelta(days=1)
    dataset, lake = prepare([event("a", past)], [task("bought", BOUGHT)])
    assert default_as_of(dataset, lake) == lake.days("events")[-1] - WEEK
    with pytest.raises(FootpathError, match="materialize more days"):
        default_as_of(dataset, Lake.of("nothing"))
