"""Training sequences: every event before the as-of, in order, in a language that stays."""

import datetime as dt
import itertools
import json
import math
import random
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.base.clock import days_between
from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from features.learning import encoding
from features.learning.sequences import SequencesReport, build_sequences
from features.sessionization.sessions import stage_sessions
from tests.builders.datasets import dataset_like
from tests.builders.events import (
    AS_OF,
    BERLIN,
    CUTOFF,
    Event,
    Midnights,
    publish_events,
    publish_items,
)
from tests.features.sessionization.test_sessions import PLACES, adversarial_stream, log_of

MINUTE = dt.timedelta(minutes=1)
SHOP = dataset_like("shop", learning={"min_item_count": 2})


def load(report: SequencesReport) -> dict[str, np.ndarray]:
    return {
        path.stem: np.load(path, mmap_mode="r", allow_pickle=False)
        for path in report.folder.glob("*.npy")
    }


def hours_before(hours: float) -> dt.datetime:
    return CUTOFF - dt.timedelta(hours=hours)


def view(user: str, hours: float, item: str | None, value: float | None = None) -> Event:
    return Event(user, hours_before(hours), f"{user}{hours}", "view", item, value)


@pytest.fixture
def lake(lake: Lake) -> Lake:
    publish_items(lake, [("a", None, "hats", None), ("b", None, "shoes", None)])
    return lake


def test_arrays_hold_each_users_events_in_order_of_time(lake):
    events = [
        view("u2", 5, "a"),
        view("u1", 30, "b", 2.5),
        view("u1", 2, "a"),
        view("u2", 60, "b"),
        Event("u1", hours_before(3), "s", "search"),
        view("u1", 1, "rare"),
    ]
    publish_events(lake, events, BERLIN)
    report = build_sequences(SHOP, lake, AS_OF)
    words = json.loads((report.folder / "vocabulary.json").read_text())
    assert words["item"] == ["[PAD]", "[MASK]", "[UNK]", "a", "b"]
    assert words["action"][3:] == SHOP.actions
    arrays = load(report)
    users = pq.read_table(report.folder / "users.parquet")["user_id"].to_pylist()
    assert users == ["u1", "u2"]
    assert arrays["offsets"].tolist() == [0, 4, 6]
    # b, then a search (no item), then a, then an item too rare for the vocabulary
    assert arrays["item"].tolist() == [4, 0, 3, 2, 4, 3]
    assert [words["category"][c] for c in arrays["category"][[0, 2]]] == ["shoes", "hats"]
    assert arrays["value"].tolist() == [2.5, 0, 0, 0, 0, 0]
    assert arrays["time"][0] == int(hours_before(30).timestamp())
    assert [words["category"][c] for c in arrays["item_category"][3:]] == ["hats", "shoes"]
    assert (report.users, report.events) == (2, 6)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from("xyz"), st.floats(0.001, 47), st.sampled_from(["a", "b", "new"])),
        max_size=8,
    )
)
def test_events_at_or_after_the_as_of_change_nothing(lake, later):
    past = [view("x", 3, "a"), view("x", 2, "a"), view("y", 1, "b"), view("y", 0.5, "b")]
    publish_events(lake, past, BERLIN)
    before = build_sequences(SHOP, lake, AS_OF)
    publish_events(lake, past + [view(user, -hours, item) for user, hours, item in later], BERLIN)
    assert build_sequences(SHOP, lake, AS_OF) == before


def test_an_event_before_the_as_of_changes_the_fingerprint(lake):
    publish_events(lake, [view("x", 3, "a"), view("x", 2, "a")], BERLIN)
    before = build_sequences(SHOP, lake, AS_OF)
    publish_events(lake, [view("x", 3, "a"), view("x", 2, "a"), view("x", 1, "a")], BERLIN)
    assert build_sequences(SHOP, lake, AS_OF).fingerprint != before.fingerprint


def test_a_frozen_vocabulary_keeps_its_ids_and_later_items_are_unknown(lake):
    publish_events(lake, [view("x", 30 - n, "a") for n in range(3)], BERLIN)
    first = build_sequences(SHOP, lake, AS_OF - dt.timedelta(days=1))
    publish_events(
        lake, [view("x", 30 - n, "a") for n in range(3)] + [view("x", 2, "b")] * 2, BERLIN
    )
    later = build_sequences(SHOP, lake, AS_OF, first.folder / "vocabulary.json")
    assert later.vocabulary_hash == first.vocabulary_hash
    assert load(later)["item"].tolist() == [3, 3, 3, 2, 2]
    fitted = build_sequences(SHOP, lake, AS_OF)
    assert fitted.pointer != later.pointer
    assert load(fitted)["item"].tolist() == [3, 3, 3, 4, 4]


@pytest.mark.parametrize(
    ("place", "gap"), [(0, 30), (1, 24 * 60), (2, 600), (3, 23 * 60), (4, 24 * 60), (4, 1)]
)
def test_sessions_are_those_of_the_data_set_whatever_the_batches(tmp_path, monkeypatch, place, gap):
    timezone, day = PLACES[place]
    midnights, rng = Midnights(day, timezone), random.Random(gap)
    streams = [list(adversarial_stream(rng, midnights, gap * MINUTE)) for _ in range(500)]
    log = log_of(streams, rng, range(-2, 8), midnights)
    lake = Lake(tmp_path / "lake")
    days = publish_events(lake, log, midnights)
    dataset = dataset_like("shop", timezone=timezone, sessions={"gap_minutes": gap})
    # What is open after the last event closes in the two days after it.
    after = [days[-1] + dt.timedelta(days=n) for n in (1, 2)]
    staged = stage_sessions(dataset, lake, days_between(days[0], after[-1]), tmp_path / "staged")
    monkeypatch.setattr(encoding, "_BATCH", 2048)
    assert len(log) > 2048
    report = build_sequences(dataset, lake, days[-1])
    arrays, found = load(report), []
    users = pq.read_table(report.folder / "users.parquet")["user_id"].to_pylist()
    for user, (first, end) in zip(users, itertools.pairwise(arrays["offsets"]), strict=True):
        number, place, length = np.unique(
            arrays["session"][first:end], return_index=True, return_counts=True
        )
        assert number.tolist() == list(range(len(number)))
        found += zip([user] * len(number), arrays["time"][first + place], length, strict=True)
    assert sorted(found) == sorted(
        (row["user_id"], math.floor(row["started_at"].timestamp()), row["length"])
        for path in staged.values()
        for row in pq.read_table(path).to_pylist()
    )


@pytest.mark.parametrize("bad", [1e300, float("nan"), float("-inf")])
def test_a_value_that_no_float32_holds_counts_as_none(lake, bad):
    publish_events(lake, [view("x", 3, "a", bad), view("x", 2, "a", 4.5)], BERLIN)
    assert load(build_sequences(SHOP, lake, AS_OF))["value"].tolist() == [0, 4.5]


def test_an_item_called_like_a_special_word_is_not_one(lake):
    publish_events(lake, [view("x", 3, "[MASK]"), view("x", 2, "[MASK]")], BERLIN)
    report = build_sequences(SHOP, lake, AS_OF)
    assert load(report)["item"].tolist() == [3, 3]


def test_no_events_and_a_wrong_vocabulary_give_a_sentence(lake, tmp_path):
    with pytest.raises(FootpathError, match="no events up to 2026-03-10"):
        build_sequences(SHOP, lake, AS_OF)
    publish_events(lake, [view("x", 3, "a")], BERLIN)
    wrong = tmp_path / "vocabulary.json"
    wrong.write_text('{"item": ["a"]}')
    with pytest.raises(
        FootpathError, match=r"field 'item' must be a list that begins with \[PAD\]"
    ):
        build_sequences(SHOP, lake, AS_OF, wrong)


def test_sessions_of_the_source_are_stretches_of_one_id(lake):
    ids = ["a", "a", "b", "a", None, "c"]
    events = [
        replace(view("x", 9 - n / 10, "a"), session_id=source) for n, source in enumerate(ids)
    ]
    events += [replace(view("y", 9 - n, "a"), session_id=source) for n, source in enumerate("ccd")]
    publish_events(lake, events, BERLIN)
    by_source = {"by": "source", "open_minutes": 45}
    how = {"session_id": "query"} | {"user_id": "user", "timestamp": "ts", "action": "type"}
    dataset = dataset_like("shop", sessions=by_source, events=how, learning={})
    session = load(build_sequences(dataset, lake, AS_OF))["session"]
    # Of y, an hour lies between the events of c: they are two sessions.
    assert session.tolist() == [0, 0, 1, 2, 3, 4, 0, 1, 2]
