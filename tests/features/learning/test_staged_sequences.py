"""Sequences of the users with new events are, to the bit, their part of everybody's."""

import datetime as dt
import json
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from contracts.lake.layout import Lake
from features.learning.sequences import StagedSequences, build_sequences, stage_sequences
from models.data.sequences import Sequences, open_sequences
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

SHOP = dataset_like("shop", learning={"min_item_count": 2})
DAY = dt.timedelta(days=1)
OF_EVENTS = ("item", "action", "category", "value", "time", "session")


def texts(sequences: Sequences, rows: slice) -> list[list[int]]:
    """The tokens of each event's document; its number is another one where others are left out."""
    ends = sequences.document_offsets
    return [sequences.document_tokens[ends[n] : ends[n + 1]].tolist() for n in
            sequences.document[rows]]  # fmt: skip


def by_user(pointer: Path) -> dict[str, list]:
    sequences = open_sequences(pointer)
    found = {}
    for row, user in enumerate(sequences.user_ids()):
        rows = slice(*sequences.offsets[row : row + 2].tolist())
        arrays = [np.asarray(getattr(sequences, name)[rows]).tobytes() for name in OF_EVENTS]
        found[user] = [*arrays, texts(sequences, rows)]
    return found


@pytest.mark.parametrize("place", [0, 1, 4])
def test_arrays_of_users_with_new_events_are_their_part_of_everybodys(lake, tmp_path, place):
    timezone, around = PLACES[place]
    rng, midnights = random.Random(place), Midnights(around, timezone)
    dataset = dataset_like("shop", timezone=timezone, learning={"query": "query"})
    streams = [list(adversarial_stream(rng, midnights, dt.timedelta(hours=1))) for _ in range(120)]
    log = log_of(streams, rng, range(-2, 8), midnights)
    days = publish_events(lake, log, midnights)
    items = {event.item_id for event in log if event.item_id} - {"i1", "i2"}
    publish_items(lake, [(i, f"Thing {i}", f"c{len(i)}", [("brand", i[1:])]) for i in items])
    first, last = days[len(days) // 2], days[-1]
    words = build_sequences(dataset, lake, first).folder / "vocabulary.json"
    full = stage_sequences(dataset, lake, last, words, tmp_path / "full")
    published = build_sequences(dataset, lake, last, words)
    assert full.fingerprint == published.fingerprint
    everybody = by_user(full.pointer)
    assert everybody == by_user(published.pointer)
    sizes = set()
    for base in days[:-1]:
        staged = stage_sequences(dataset, lake, last, words, tmp_path / str(base), base)
        wanted = {e.user_id for e in log if base < midnights.day_of(e.timestamp) <= last}
        assert by_user(staged.pointer) == {user: everybody[user] for user in wanted}
        assert {*pq.read_table(staged.everyone)["user_id"].to_pylist()} == {*everybody}
        sizes.add(len(wanted))
    assert max(sizes) > 1.5 * min(sizes)


@pytest.fixture
def told(lake: Lake) -> tuple[Lake, Path]:
    """Ann bought a hat that has a title, and later bob, of nothing that is known."""
    publish_items(lake, [("a", "A hat", "hats", None)])
    ann = [Event("ann", CUTOFF - 30 * DAY / 24, f"a{n}", "view", "a") for n in range(2)]
    publish_events(lake, [*ann, Event("bob", CUTOFF - DAY / 24, "b", "view", "odd")], BERLIN)
    return lake, build_sequences(SHOP, lake, AS_OF - DAY).folder / "vocabulary.json"


def staged_of(told: tuple[Lake, Path], folder: Path, base: dt.date) -> StagedSequences:
    lake, words = told
    return stage_sequences(SHOP, lake, AS_OF, words, folder, base)


def test_who_says_nothing_in_words_is_read_by_a_model_of_text(told, tmp_path):
    staged = staged_of(told, tmp_path / "staged", AS_OF - DAY)
    sequences = open_sequences(staged.pointer)
    assert sequences.user_ids() == ["bob"]
    assert sequences.document.tolist() == [0]
    assert sequences.has_text


def test_nothing_is_published_of_what_is_staged_and_nothing_made_where_nobody_is_new(
    told, tmp_path
):
    lake, _ = told
    before = sorted(lake.root.rglob("*"))
    assert staged_of(told, tmp_path / "staged", AS_OF - DAY).pointer
    none = staged_of(told, tmp_path / "none", AS_OF)
    assert (none.pointer, none.fingerprint) == (None, "")
    assert {*pq.read_table(none.everyone)["user_id"].to_pylist()} == {"ann", "bob"}
    assert [p for p in sorted(lake.root.rglob("*")) if "_staging" not in p.parts] == [
        p for p in before if "_staging" not in p.parts
    ]
    said = json.loads((tmp_path / "staged" / "sequences.json").read_text())
    assert said["is_frozen"]
