"""Summaries: what is counted of a history before an instant, against plain counting."""

import dataclasses

import numpy as np
import pytest

from models.data.sequences import open_sequences
from models.data.summary import ACTIONS, BY_CATEGORY, DAY, WINDOWS, Columns

LENGTHS = [40, 3, 25, 1]


@pytest.fixture
def sequences(make_sequences):
    rng = np.random.default_rng(3)
    start = 1_767_225_600
    time = np.concatenate([start + np.cumsum(rng.integers(0, DAY, n)) for n in LENGTHS])
    value = rng.normal(0, 50, sum(LENGTHS)).astype(np.float32)
    return open_sequences(make_sequences(LENGTHS, time=time, value=value))


def plain(sequences, user, start, end, now):
    """The columns of one stretch, one by one."""
    first = sequences.offsets[user]
    at = slice(first + start, first + end)
    time, item, action, category, value, session = (
        np.asarray(getattr(sequences, name)[at])
        for name in ("time", "item", "action", "category", "value", "session")
    )
    gap = np.log1p(np.diff(time, prepend=time[0]))
    is_new = np.array([id_ not in item[:n] for n, id_ in enumerate(item)])
    opens = np.diff(session, prepend=session[0] - 1) != 0
    columns = Columns.of(sequences.sizes)

    def log(total):
        return np.sign(total) * np.log1p(abs(total))

    found = []
    added_up = [np.ones(len(time)), is_new, opens, value, gap]
    for nth in range(columns.actions):
        added_up += [action == nth + 3, np.where(action == nth + 3, value, 0)]
    for values in added_up:
        for window in (*WINDOWS, np.inf):
            found += [log(sum(values[time >= now - window].astype(float)))]
    for nth in range(columns.categories):
        for window in (*BY_CATEGORY, np.inf):
            found += [log(sum((category == nth + 3)[time >= now - window]))]
    found += [np.log1p(now - time[-1]), np.log1p(now - time[0])]
    for nth in range(columns.actions):
        seen = time[action == nth + 3]
        found += [np.log1p(now - seen[-1]) if len(seen) else np.nan]
    return np.array(found)


def test_every_column_is_what_plain_counting_gives(sequences):
    rng = np.random.default_rng(0)
    users = rng.integers(0, len(LENGTHS), 60)
    ends = rng.integers(1, sequences.lengths[users] + 1)
    starts = rng.integers(0, ends)
    last = sequences.time[sequences.offsets[users] + ends - 1]
    now = last + rng.integers(0, 40 * DAY, 60)
    found = sequences.summaries(users, starts, ends, now)
    assert found.shape == (60, Columns.of(sequences.sizes).width)
    for row, *example in zip(found, users, starts, ends, now, strict=True):
        np.testing.assert_allclose(row, plain(sequences, *example), rtol=1e-4, atol=1e-4)


def test_what_comes_later_changes_nothing(sequences):
    users, ends = np.array([0, 2]), np.array([20, 11])
    now = sequences.time[sequences.offsets[users] + ends - 1]
    before = sequences.summaries(users, ends * 0, ends, now)
    later = np.concatenate([np.arange(n) >= 20 for n in LENGTHS])
    changed = dataclasses.replace(
        sequences,
        item=np.where(later, 7, sequences.item),
        value=np.where(later, 1e6, sequences.value).astype(np.float32),
    )
    assert np.array_equal(before, changed.summaries(users, ends * 0, ends, now), equal_nan=True)


def test_windows_hold_the_summary_of_the_whole_history_up_to_their_end(sequences):
    reading = dataclasses.replace(sequences, has_summary=True)
    users, start, length = np.array([0, 1]), np.array([30, 1]), np.array([5, 2])
    now = np.full(2, sequences.cutoff + 90 * DAY)
    windows = reading.windows(users, start, length, now)
    expected = sequences.summaries(users, start * 0, start + length, now)
    assert np.array_equal(windows.summary_BF.numpy(), expected, equal_nan=True)
    assert sequences.windows(users, start, length, now).summary_BF is None


def test_columns_are_bounded_whatever_the_vocabularies_are():
    assert Columns.of({"action": 3, "category": 3}) == Columns(0, 0)
    assert Columns.of({"action": 1000, "category": 1_000_000}).actions == ACTIONS
