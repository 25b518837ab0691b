import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contracts.base.errors import FootpathError
from models.data.batching import blocks, chunks, epoch_batches
from models.data.packed import gap_buckets
from models.data.rng import Draw, key_of
from models.data.sequences import open_sequences


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=20),
    st.integers(2, 12),
)
def test_chunks_hold_every_event_once_in_pieces_of_nearly_equal_length(lengths, max_length):
    lengths = np.array(lengths)
    users = np.flatnonzero(lengths)
    owner, start, length = chunks(lengths, users, max_length)
    seen = [(o, s + k) for o, s, n in zip(owner, start, length, strict=True) for k in range(n)]
    assert sorted(seen) == [(o, e) for o, user in enumerate(users) for e in range(lengths[user])]
    assert (length <= max_length).all()
    for user in range(len(users)):
        own = length[owner == user]
        assert own.max() - own.min() <= 1


@given(st.lists(st.integers(1, 30), max_size=30), st.integers(1, 40))
def test_blocks_cover_everything_and_respect_the_budget(sizes, budget):
    sizes = np.array(sizes, dtype=np.int64)
    found = list(blocks(sizes, budget))
    assert [n for block in found for n in range(block.start, block.stop)] == list(range(len(sizes)))
    for block in found:
        assert sizes[block].sum() - sizes[block][-1] < budget


def test_an_epoch_has_every_user_once_in_another_order():
    users = np.arange(100, 137)
    one, two = (np.concatenate(epoch_batches(users, 8, 0, epoch)) for epoch in (0, 1))
    assert sorted(one) == sorted(two) == users.tolist()
    assert one.tolist() != two.tolist()


def test_random_numbers_of_a_user_do_not_depend_on_the_batch():
    together = Draw(7, 3, np.array([5, 9, 2, 44])).uniform("mask", 6)
    alone = Draw(7, 3, np.array([2])).uniform("mask", 6)
    assert np.array_equal(together[2], alone[0])
    for other in (Draw(8, 3, np.array([2])), Draw(7, 4, np.array([2]))):
        assert not np.array_equal(other.uniform("mask", 6), alone)
    assert not np.array_equal(Draw(7, 3, np.array([2])).uniform("window", 6), alone)
    assert key_of(1, 2) != key_of(2, 1)


def test_random_numbers_are_uniform():
    drawn = Draw(0, 0, np.arange(2000)).uniform("test", 50)
    counts = np.histogram(drawn, bins=20, range=(0, 1))[0]
    chi2 = ((counts - 5000) ** 2 / 5000).sum()
    assert chi2 < 43.8  # 19 degrees of freedom, p = 0.001
    assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.1


def test_windows_hold_the_events_of_their_user(make_sequences):
    sequences = open_sequences(make_sequences([6, 4, 9]))
    events = sequences.windows(np.array([2, 0]), np.array([3, 0]), np.array([5, 2]))
    assert events.item_T.tolist() == sequences.item[[13, 14, 15, 16, 17, 0, 1]].tolist()
    assert events.lengths_B.tolist() == [5, 2]
    assert events.gap_T[5] == 0  # a user's first event has no gap
    gap = int(sequences.time[13] - sequences.time[12])
    assert events.gap_T[0] == gap_buckets(np.array([gap]), np.array([False]))[0]


def test_gaps_are_whole_powers_of_two():
    seconds = np.array([0, 1, 2, 3, 2**31 - 2, 2**40])
    assert gap_buckets(seconds, np.zeros(6, bool)).tolist() == [2, 3, 3, 4, 32, 32]
    assert gap_buckets(seconds[:1], np.ones(1, bool)).tolist() == [0]


def test_random_windows_reach_every_event_and_never_another_user(make_sequences):
    sequences = open_sequences(make_sequences([3, 11, 5]))
    seen = set()
    for epoch in range(60):
        events = sequences.random_windows(Draw(0, epoch, np.array([1])), max_length=4)
        assert events.lengths_B.tolist() == [4]
        seen |= set(events.time_T.tolist())
    assert seen == set(sequences.time[3:14].tolist())


def test_others_are_all_events_of_all_other_users(make_sequences):
    time = np.arange(16)  # tells events apart
    sequences = open_sequences(make_sequences([4, 7, 5], time=time))
    others = sequences.others(Draw(0, 0, np.array([1, 0, 2])), 400)
    drawn = others.time_T.reshape(3, 400)
    assert set(drawn[0].tolist()) == {*range(4), *range(11, 16)}
    assert set(drawn[1].tolist()) == set(range(4, 16))
    assert set(drawn[2].tolist()) == set(range(11))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"value": np.array([1, 2, np.nan, 4, 5], np.float32)}, "event 2 of user 'user-0000'"),
        ({"item": np.array([3, 4, 5, 99, 6], np.int32)}, "event 0 of user 'user-0001'"),
        ({"action": np.array([3, 4, -1, 3, 3], np.int32)}, "action.npy: an id is outside"),
        ({"time": np.array([5, 6, 7, 9, 8])}, "earlier than the one before"),
        ({"session": np.array([0, 1, 0, 0, 0], np.int32)}, "of an earlier session than"),
        ({"offsets": np.array([0, 3, 9])}, "does not divide"),
        ({"category": np.array([3, 3], np.int32)}, "differ in length"),
        ({"item": np.array([3, 4, 5, 6, 7])}, "expected a flat array of int32"),
    ],
)
def test_broken_sequences_are_refused_with_a_sentence(make_sequences, change, sentence):
    pointer = make_sequences([3, 2], **change)
    with pytest.raises(FootpathError, match=sentence):
        open_sequences(pointer)


def test_no_users_is_a_sentence(make_sequences):
    with pytest.raises(FootpathError, match="has no users with events"):
        open_sequences(make_sequences([]))


def test_missing_files_and_fields_are_sentences(make_sequences):
    pointer = make_sequences([3, 2])
    array = next((pointer.parent).glob("*/time.npy"))
    array.write_bytes(b"not numpy")
    with pytest.raises(FootpathError, match=r"time\.npy is not what 2026-01-31\.json"):
        open_sequences(pointer)
    array.unlink()
    with pytest.raises(FootpathError, match=r"time\.npy is not there"):
        open_sequences(pointer)
    pointer.write_text(json.dumps({"format": 2, "folder": "x", "files": {}}))
    with pytest.raises(FootpathError, match="field 'fingerprint' is missing"):
        open_sequences(pointer)


@pytest.mark.parametrize("told", [None, 0, 1])
def test_sequences_of_another_format_say_what_to_rebuild(make_sequences, told):
    pointer = make_sequences([3, 2])
    pointer.write_text(json.dumps(json.loads(pointer.read_text()) | {"format": told}))
    with pytest.raises(FootpathError, match=f"format {told}, .* rebuild training_sequences"):
        open_sequences(pointer)


def test_a_vocabulary_in_another_order_is_refused(make_sequences):
    pointer = make_sequences([3, 2])
    path = next(pointer.parent.glob("*/vocabulary.json"))
    words = json.loads(path.read_text())
    words["item"][3], words["item"][4] = words["item"][4], words["item"][3]
    path.write_text(json.dumps(words))
    with pytest.raises(FootpathError, match=r"vocabulary\.json is not what .*: rebuild train"):
        open_sequences(pointer)


def test_an_array_in_which_values_have_changed_places_is_refused(make_sequences):
    pointer = make_sequences([3, 2])
    path = next(pointer.parent.glob("*/item.npy"))
    np.save(path, np.load(path)[::-1])
    with pytest.raises(FootpathError, match=r"item\.npy is not what"):
        open_sequences(pointer)


def test_reading_a_batch_does_not_load_the_arrays(make_sequences):
    sequences = open_sequences(make_sequences([30] * 50))
    assert isinstance(sequences.item.base, np.memmap)
    events = sequences.windows(np.array([7]), np.array([0]), np.array([30]))
    assert events.item_T.untyped_storage().nbytes() == 30 * torch.int64.itemsize
