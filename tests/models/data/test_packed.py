import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.data.packed import (
    MASK,
    VALUE_BUCKETS,
    Events,
    join,
    pack,
    ragged_arange,
    value_buckets,
)

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=12)


def events_of(lengths: list[int]) -> Events:
    n = torch.arange(sum(lengths))
    size = torch.tensor(lengths)
    return Events(n + 3, n + 3, n + 3, n + 3, n + 3, n.float(), n, ragged_arange(size), size)


@given(LENGTHS, st.sampled_from([0.0, 0.05, 0.3, 0.9]))
def test_packing_conserves_every_event_within_its_padding_bound(lengths, max_padding):
    events = events_of(lengths)
    packed = pack(events)
    buckets = packed.buckets(max_padding)
    assert sorted(packed.item_T.tolist()) == sorted(events.item_T.tolist())
    rows = packed.item_T[:, None].double().split([bucket.events for bucket in buckets])
    for bucket, part in zip(buckets, rows, strict=True):
        rectangle = bucket.to_rectangle(part)
        assert rectangle.shape == (bucket.count, bucket.length, 1)
        assert torch.equal(bucket.to_rows(rectangle), part)
        assert (rectangle != 0).sum() == bucket.events  # what is no event is zero
        assert bucket.count * bucket.length - bucket.events <= max_padding * rectangle.numel()


@given(LENGTHS)
def test_packed_events_stay_with_their_sequence_and_position(lengths):
    events = events_of(lengths)
    packed = pack(events)
    first = events.starts_B[packed.sequence_T]
    assert torch.equal(packed.item_T, events.item_T[first + packed.position_T])


def test_gradient_of_padding_is_that_of_a_plain_copy():
    packed = pack(events_of([7, 6, 6, 3]))
    (bucket,) = packed.buckets(0.9)
    rows = torch.randn(22, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: bucket.to_rectangle(x).square(), rows)
    assert torch.autograd.gradcheck(lambda x: bucket.to_rows(bucket.to_rectangle(x) * 2), rows)


def test_cut_takes_windows_and_counts_positions_from_their_start():
    events = events_of([5, 3])
    cut = events.cut(torch.tensor([1, 0, 0]), torch.tensor([1, 0, 2]), torch.tensor([2, 1, 3]))
    assert cut.item_T.tolist() == [9, 10, 3, 5, 6, 7]
    assert cut.position_T.tolist() == [0, 1, 0, 0, 1, 2]
    assert cut.sequence_T.tolist() == [0, 0, 1, 2, 2, 2]


def test_hide_leaves_nothing_but_the_position():
    hidden = events_of([4]).hide(torch.tensor([False, True, False, False]))
    for name in ("item_T", "action_T", "category_T", "document_T", "gap_T"):
        assert getattr(hidden, name).tolist() == [3, MASK, 5, 6]
    assert hidden.value_T.tolist() == [0, 0, 2, 3]
    assert hidden.position_T.tolist() == [0, 1, 2, 3]


def test_join_keeps_the_order_of_sequences():
    joined = join([events_of([2]), events_of([3, 1])])
    assert joined.lengths_B.tolist() == [2, 3, 1]
    assert joined.starts_B.tolist() == [0, 2, 5]


@pytest.mark.parametrize("lengths", [[100] * 64, np.arange(1, 101).tolist()])
def test_padding_of_attention_stays_under_five_per_cent(lengths):
    packed = pack(events_of(lengths))
    slots = sum(b.count * b.length for b in packed.buckets(0.05))
    assert 1 - sum(lengths) / slots <= 0.05


@given(st.lists(st.floats(-1e12, 1e12), min_size=2, max_size=20))
def test_a_larger_value_lies_in_a_later_bucket_and_its_opposite_in_the_opposite(values):
    found = value_buckets(torch.tensor(sorted(values)))
    assert (found.diff() >= 0).all()
    assert int(found.min()) >= 0
    assert int(found.max()) < VALUE_BUCKETS
    opposite = value_buckets(-torch.tensor(sorted(values)))
    assert torch.equal(found + opposite, torch.full_like(found, VALUE_BUCKETS - 1))
    told = value_buckets(torch.tensor([0.0, 1.0, 3.0, 7.0, -7.0]))
    assert told.tolist() == [32, 34, 36, 38, 26]
