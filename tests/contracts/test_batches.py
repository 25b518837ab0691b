"""Batches hold every item once, in order, and no more than is allowed."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from contracts.base.batches import chunks


@given(st.lists(st.integers(0, 20)), st.integers(1, 30), st.none() | st.integers(1, 5))
def test_batches_hold_every_item_once_and_are_as_large_as_allowed(sizes, limit, count):
    found = list(chunks(((size, size) for size in sizes), limit, count))
    assert [size for batch in found for size in batch] == sizes
    most = count or len(sizes)
    assert all(len(batch) == 1 or sum(batch) <= limit for batch in found)
    assert all(0 < len(batch) <= most for batch in found)
    # The first item of a batch is the one that the batch before it had no room for.
    assert all(
        sum(before) + after[0] > limit or len(before) == most
        for before, after in itertools.pairwise(found)
    )


def test_items_are_taken_one_ahead_and_no_further():
    taken = []

    def items():
        for size in (3, 3, 3, 3):
            taken.append(size)
            yield size, size

    assert next(chunks(items(), 6)) == [3, 3]
    assert len(taken) == 3
