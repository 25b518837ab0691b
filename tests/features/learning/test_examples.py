"""Examples: cut where they say, labeled by what comes after, and blind to it."""

import datetime as dt
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from contracts.lake.reading import read_json
from contracts.lake.schemas import EVENTS
from features.learning.label_rows import Split
from features.learning.labels import build_labels
from features.learning.later_examples import build_examples
from features.learning.sequences import build_sequences
from tests.builders.datasets import dataset_like
from tests.builders.events import (
    AS_OF,
    BERLIN,
    CUTOFF,
    Event,
    labels_of,
    publish_events,
    publish_items,
    publish_sessions,
)

NEXT = AS_OF + dt.timedelta(days=1)
CATALOG = {"a": "hats", "b": "shoes", "c": "hats", "d": "bags"}

NEXT_ITEM = {"name": "next_item", "kind": "ranking", "holdout": 2, "metric": "recall@10"}
FAVORITE = {
    "name": "favorite",
    "sql": "mode(category ORDER BY timestamp, sequence)",
    "holdout": 2,
    "metric": "accuracy",
}
BUYS = "count(*) FILTER (action = 'purchase') > 0"
INTENTION = {
    "name": "intention",
    "sql": BUYS,
    "session": {"before": "action = 'purchase'"},
    "metric": "auc",
}
LEFT = {
    "name": "left",
    "kind": "regression",
    "sql": "count(*)",
    "session": {"alone": True},
    "metric": "mae",
}


def at(user: str, minutes: float, item: str | None = "a", action: str = "view") -> Event:
    """An event so many minutes after the as-of instant; before it where they are negative."""
    when = CUTOFF + dt.timedelta(minutes=minutes)
    return Event(user, when, f"{user}{minutes:09.3f}{action}", action, item)


@pytest.fixture
def lake(lake: Lake) -> Lake:
    publish_items(lake, [(i, None, c, None) for i, c in CATALOG.items()])
    return lake


def rows_of(lake: Lake, table: str, task: str) -> dict[str, dict]:
    rows = pq.read_table(lake.root / "examples" / f"{AS_OF}__{table}.parquet").to_pylist()
    return {row["user_id"]: row for row in rows if row["task"] == task}


def publish(lake: Lake, log: list[Event], tasks: list[dict], **sections: object):
    dataset = dataset_like("shop", tasks=tasks, learning={"min_item_count": 1}, **sections)
    publish_events(lake, log, BERLIN)
    days = lake.days("events")
    days = [days[0] + dt.timedelta(days=n) for n in range((days[-1] - days[0]).days + 2)]
    publish_sessions(dataset, lake, days)
    return dataset


def past(user: str, items: str) -> list[Event]:
    """Events of an item each, the last one a minute before the as-of."""
    return [at(user, -len(items) + n, item) for n, item in enumerate(items)]


def test_held_out_events_answer(lake):
    dataset = publish(
        lake, past("u", "aabd") + past("v", "bbbac") + past("short", "ab"), [NEXT_ITEM, FAVORITE]
    )
    build_examples(dataset, lake, AS_OF, "holdout2")
    asked = rows_of(lake, "holdout2", "next_item")
    assert {user: row["label"] for user, row in asked.items()} == {"u": "b", "v": "a"}
    named = rows_of(lake, "holdout2", "favorite")
    assert {user: row["label"] for user, row in named.items()} == {"u": "shoes", "v": "hats"}


def test_inputs_hold_nothing_of_what_is_held_out(lake):
    """The vocabulary, the arrays and the users are those of a log without these events."""
    whole = publish(lake, past("u", "aab") + past("v", "bbacb") + past("w", "bc"), [NEXT_ITEM])
    blind = build_sequences(whole, lake, AS_OF, holdout=2)
    leak = [*past("u", "aab")[:1], *past("v", "bbacb")[:3]]
    leak += [at("u", -1.5, "d"), at("u", -1, "d"), at("v", -1.2, "c"), at("v", -1.1, "d")]
    leak += [at("w", -9, "d"), at("w", -8, "a")]
    publish_events(lake, leak, BERLIN)
    other = build_sequences(whole, lake, AS_OF, holdout=2)
    assert other.fingerprint == blind.fingerprint  # whatever the last two events say
    assert blind.users == 2
    assert blind.pointer.name == f"{AS_OF}__holdout2.json"
    assert build_sequences(whole, lake, AS_OF).fingerprint != blind.fingerprint


def test_events_of_one_second_may_lie_on_both_sides_of_what_is_held_out(lake):
    tied = [Event("u", CUTOFF - dt.timedelta(hours=1), f"e{n}", "view", i) for n, i in
            enumerate("aabbc")]  # fmt: skip
    other = past("v", "abcd")
    dataset = publish(lake, tied + other, [NEXT_ITEM])
    build_examples(dataset, lake, AS_OF, "holdout2")
    row = rows_of(lake, "holdout2", "next_item")["u"]
    assert row["label"] == "b"
    assert row["as_of"] == tied[0].timestamp + dt.timedelta(seconds=1)  # all three kept are seen


SESSION = [0, 1, 2, 3, 4, 5]  # minutes


def sessions_of(users: int) -> list[Event]:
    """Sessions after the as-of, of users of whom every other buys at the fourth minute."""
    events = []
    for n in range(users):
        events += past(f"u{n}", "ab")
        for minute in SESSION:
            buys = minute == 4 and n % 2
            events.append(at(f"u{n}", 60 + minute, "c", "purchase" if buys else "view"))
    return events


def test_a_session_is_cut_at_a_second_of_its_own_and_the_rest_answers(lake):
    dataset = publish(lake, sessions_of(40), [INTENTION, LEFT])
    build_examples(dataset, lake, AS_OF, "later")
    minute = {}
    for user, row in rows_of(lake, "later", "left").items():
        minute[user] = (row["as_of"] - CUTOFF).total_seconds() / 60 - 60
        assert minute[user] in SESSION[1:]  # something is seen, and something is left
        assert row["value"] == len(SESSION) - minute[user]
        assert row["since"] == CUTOFF + dt.timedelta(minutes=60)  # the session alone
    assert len(set(minute.values())) == len(SESSION) - 1
    before = pq.read_table(lake.root / "examples" / f"{AS_OF}__later.parquet")
    build_examples(dataset, lake, AS_OF, "later")
    assert pq.read_table(lake.root / "examples" / f"{AS_OF}__later.parquet").equals(before)


def test_intention_sees_no_purchase_of_the_session(lake):
    dataset = publish(lake, sessions_of(40), [INTENTION])
    build_examples(dataset, lake, AS_OF, "later")
    for user, row in rows_of(lake, "later", "intention").items():
        bought = int(user[1:]) % 2
        assert row["label"] == ("yes" if bought else "no")
        assert row["since"] is None  # the history before is seen
        if bought:
            assert row["as_of"] <= CUTOFF + dt.timedelta(minutes=64)


def test_later_events_change_neither_vocabulary_nor_pretraining(lake):
    dataset = publish(lake, sessions_of(6), [INTENTION])
    plain = build_sequences(dataset, lake, AS_OF)
    publish_events(lake, [*sessions_of(6), at("u1", 66, "new"), at("u1", 67, "new")], BERLIN)
    assert build_sequences(dataset, lake, AS_OF).fingerprint == plain.fingerprint
    later = build_sequences(dataset, lake, NEXT, plain.folder / "vocabulary.json")
    assert later.vocabulary_hash == plain.vocabulary_hash
    assert later.events > plain.events
    # Labels may be older than these sequences: their vocabulary is not younger.
    assert read_json(later.pointer)["is_frozen"]
    assert not read_json(plain.pointer)["is_frozen"]


def test_sessions_that_began_before_the_as_of_are_no_examples(lake):
    crossing = [at("x", -2, "a"), at("x", -1, "a"), at("x", 3, "c"), at("x", 5, "c")]
    dataset = publish(lake, sessions_of(4) + crossing, [LEFT])
    build_examples(dataset, lake, AS_OF, "later")
    assert set(rows_of(lake, "later", "left")) == {"u0", "u1", "u2", "u3"}


def test_lists_hold_what_was_shown_and_what_was_chosen(lake):
    click = {
        "name": "click",
        "kind": "ranking",
        "candidates": {
            "where": "action = 'view'",
            "relevant": "properties['clicked'] = 'yes'",
            "numbers": {"place": "properties['place']", "price": "value"},
        },
        "metric": "mrr",
    }
    dataset = dataset_like("shop", tasks=[click])
    publish_events(lake, past("u", "ab"), BERLIN)
    rows = [
        vars(at("u", minute, item))
        | {
            "event_id": f"{minute}{place}",
            "sequence": place,
            "value": 10.0 * place,
            "session_id": None,
            "properties": {"place": str(place), "clicked": "yes" if item == chosen else "no"},
        }
        for minute, chosen in ((5, "b"), (9, "nothing"))
        for place, item in enumerate("abc")
    ]
    publish_table(lake, pa.Table.from_pylist(rows, schema=EVENTS), lake.day("events", NEXT))
    build_examples(dataset, lake, AS_OF, "later")
    rows = pq.read_table(lake.root / "examples" / f"{AS_OF}__later.parquet").to_pylist()
    # The second list tells nothing: none of it was chosen.
    assert [(r["label"], r["value"]) for r in rows] == [("a", 0), ("b", 1), ("c", 0)]
    assert rows[2]["numbers"] == [2.0, 20.0]
    assert {r["as_of"] for r in rows} == {CUTOFF + dt.timedelta(minutes=5)}


def daily(name: str, sql: str, **more: object) -> dict:
    return {"name": name, "sql": sql, "horizon_days": 1, "metric": "auc"} | more


def test_a_label_may_compare_the_future_with_the_past(lake):
    events = past("same", "ac") + past("first", "a") + past("none", "b") + past("many", "ab")
    events += [at("same", 5, "a", "purchase"), at("first", 5, "b", "purchase")]
    events += [at("many", 5, "a", "purchase"), at("many", 6, "d", "purchase")]
    new = daily(
        "new",
        "count(*) FILTER (action = 'purchase' AND NOT list_contains(seen, category)) > 0",
        known={"seen": "list(DISTINCT category)"},
    )
    more = daily("more", "count(*) > before", known={"before": "count(*) - 1"})
    build_labels(publish(lake, events, [new, more]), lake, AS_OF)
    assert labels_of(lake, "new") == {"same": "no", "first": "yes", "none": "no", "many": "yes"}
    # Who does nothing has done nothing: 0 events, not none.
    assert labels_of(lake, "more") == {"same": "no", "first": "yes", "none": "no", "many": "yes"}


def test_the_median_is_that_of_training_users_who_have_a_number(lake):
    events = [event for n in range(200) for event in past(f"u{n}", "a")]
    events += [at(f"u{n}", 5 + m, "a", "purchase") for n in range(100) for m in range(n // 10)]
    much = daily("much", "nullif(count(*), 0)", above="median")
    build_labels(publish(lake, events, [much]), lake, AS_OF)
    rows = pq.read_table(lake.day("labels", AS_OF)).to_pylist()
    bought = {f"u{n}": n // 10 for n in range(10, 100)}
    assert {row["user_id"] for row in rows} == set(bought)
    middle = np.median([bought[r["user_id"]] for r in rows if r["split"] == "train"])
    assert all((row["label"] == "yes") == (bought[row["user_id"]] > middle) for row in rows)


def test_each_split_has_the_median_of_its_own_training_users(lake, tmp_path):
    events = [event for n in range(1, 40) for event in past(f"u{n}", "a")]
    events += [at(f"u{n}", 5 + m, "a") for n in range(1, 40) for m in range(n)]
    much = daily("much", "count(*)", above="median")
    dataset, medians = publish(lake, events, [much]), []
    for seed in range(3):
        build_labels(dataset, lake, AS_OF, Split(seed), tmp_path / "labels.parquet")
        rows = pq.read_table(tmp_path / "labels.parquet").to_pylist()
        numbers = [int(row["user_id"][1:]) for row in rows if row["split"] == "train"]
        medians.append(np.median(numbers))
        assert {r["label"] == "yes" for r in rows if int(r["user_id"][1:]) > medians[-1]} == {True}
        assert {r["label"] == "yes" for r in rows if int(r["user_id"][1:]) < medians[-1]} == {False}
    assert len(set(medians)) > 1
    assert not lake.day("labels", AS_OF).exists()


def test_each_split_has_the_classes_of_its_own_training_users(lake, tmp_path):
    users = [f"u{n}" for n in range(12)]
    events = [event for user in users for event in past(user, "a")]
    events += [at(user, 5, "abd"[n % 3]) for n, user in enumerate(users)]
    which = daily("which", "first(category)", classes=2, metric="accuracy")
    dataset, left_out = publish(lake, events, [which]), set()
    for seed in range(6):
        build_labels(dataset, lake, AS_OF, Split(seed), tmp_path / "labels.parquet")
        rows = pq.read_table(tmp_path / "labels.parquet").to_pylist()
        of_train = [int(row["user_id"][1:]) % 3 for row in rows if row["split"] == "train"]
        (rare,) = {"hats", "shoes", "bags"} - {row["label"] for row in rows}
        counts = [of_train.count(n) for n in range(3)]
        assert counts[("hats", "shoes", "bags").index(rare)] == min(counts)
        left_out.add(rare)
    assert len(left_out) > 1


def test_rare_classes_become_one(lake):
    events = past("x", "b") + past("y", "d")
    for n in range(30):
        events += [*past(f"u{n}", "a"), at(f"u{n}", 5, "a")]
    events += [at("x", 5, "b"), at("y", 5, "d")]
    which = daily("which", "first(category)", classes=2, metric="accuracy")
    build_labels(publish(lake, events, [which]), lake, AS_OF)
    found = labels_of(lake, "which")
    assert found["u1"] == "hats"
    assert len(set(found.values())) <= 3
    assert "other" in found.values()


def test_examples_that_cannot_be_made_are_told(lake):
    dataset = publish(lake, past("u", "ab"), [NEXT_ITEM, INTENTION])
    with pytest.raises(FootpathError, match=r"'holdout9'.*it has those of holdout2, later"):
        build_examples(dataset, lake, AS_OF, "holdout9")
    with pytest.raises(FootpathError, match="no events after 2026-03-10"):
        build_examples(dataset, lake, AS_OF, "later")
    with pytest.raises(FootpathError, match="nothing to learn"):  # two events, both held out
        build_examples(dataset, lake, AS_OF, "holdout2")
    wrong = dataset_like("shop", tasks=[FAVORITE | {"sql": "max(nonsense)"}])
    with pytest.raises(FootpathError, match=r"task favorite .*`max\(nonsense\)`.*nonsense"):
        build_examples(wrong, lake, AS_OF, "holdout2")


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ({"name": "t", "metric": "auc"}, "give one of column"),
        (NEXT_ITEM | {"session": {}}, "give one of column"),
        (NEXT_ITEM | {"metric": "auc"}, "metric auc does not go with ranking"),
        (FAVORITE | {"sql": None}, "sql is missing"),
        (NEXT_ITEM | {"sql": "max(item_id)"}, "sql does not go with"),
        (FAVORITE | {"known": {"n": "count(*)"}}, "known goes with sql over a future window"),
        (INTENTION | {"exclude_history": True}, "for a ranking of all items"),
        (LEFT | {"above": "median"}, "above makes classes"),
        ({"name": "t", "kind": "ranking", "column": "age", "metric": "mrr"}, "a ranking needs"),
    ],
)
def test_a_task_that_means_nothing_is_refused(task, sentence):
    with pytest.raises(ValueError, match=sentence):
        dataset_like("shop", tasks=[task])


def test_examples_of_overlapping_sessions_of_the_source_have_the_events_of_their_id(lake):
    log = [
        replace(at(f"u{n}", 60 + minute, item), session_id=source)
        for n in range(4)
        for minute in range(6)
        for source, item in (("phone", "a"), ("laptop", "b"))
    ]
    task = LEFT | {"sql": "count(DISTINCT item_id)"}
    how = {"session_id": "query", "user_id": "user", "timestamp": "ts", "action": "type"}
    by_source = {"sessions": {"by": "source", "open_minutes": 60}, "events": how}
    dataset = publish(lake, [*log, *past("z", "abc")], [task], **by_source)
    build_examples(dataset, lake, AS_OF, "later")
    rows = pq.read_table(lake.root / "examples" / f"{AS_OF}__later.parquet").to_pylist()
    assert len(rows) == 8  # two of each user, which began at one instant
    assert {row["value"] for row in rows} == {1}
