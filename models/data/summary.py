"""Summaries of histories: what is counted of a user's events before an instant, a row an example.

Counts, values and sessions in windows that end with the instant, times since, and the commonest
categories: what a practitioner would count first, over the whole history, which an encoder of the
last events does not see. It comes from the events themselves, so that a user of a minute ago has it
too.

Shapes: n examples, T events of their users, F columns.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from models.data.packed import SPECIAL
from models.data.places import places_before

HOUR, DAY = 3600, 86400
WINDOWS = (HOUR, DAY, 7 * DAY, 30 * DAY, 90 * DAY, 365 * DAY)  # and all that was before
BY_CATEGORY = (30 * DAY, 90 * DAY)  # windows of categories, and all that was before
ACTIONS, CATEGORIES = 12, 20  # of each vocabulary, the first


@dataclass(frozen=True)
class Columns:
    """Which columns a vocabulary gives."""

    actions: int
    categories: int

    @classmethod
    def of(cls, sizes: dict[str, int]) -> "Columns":
        """Those of vocabularies of these lengths."""
        known = {name: sizes[name] - len(SPECIAL) for name in ("action", "category")}
        return cls(min(known["action"], ACTIONS), min(known["category"], CATEGORIES))

    @property
    def width(self) -> int:
        """How many there are."""
        added_up = 5 + 2 * self.actions
        by_category = self.categories * (len(BY_CATEGORY) + 1)
        return added_up * (len(WINDOWS) + 1) + by_category + 2 + self.actions


@dataclass(frozen=True)
class Seen:
    """The events of the users of n examples, one user after the other."""

    first_n: np.ndarray  # where the events of each example's user begin
    length_n: np.ndarray  # how many there are
    is_first_T: np.ndarray  # of its user
    item_T: np.ndarray
    action_T: np.ndarray
    category_T: np.ndarray
    value_T: np.ndarray
    time_T: np.ndarray
    session_T: np.ndarray

    def before(self, second_n: np.ndarray) -> np.ndarray:
        """How many events of each example's user are before a second."""
        return places_before(self.time_T, self.first_n, self.length_n, second_n)

    def between(self, value_T: np.ndarray, start_n: np.ndarray, end_n: np.ndarray) -> np.ndarray:
        """Adds up what each example's events have, from a place up to, and without, another."""
        total_T = np.concatenate([[0.0], np.cumsum(value_T, dtype=np.float64)])
        return total_T[self.first_n + end_n] - total_T[self.first_n + start_n]

    @cached_property
    def is_new_T(self) -> np.ndarray:
        """Whether its user has not met the item of an event before."""
        return self._is_first_of(self.item_T)

    @cached_property
    def is_new_category_T(self) -> np.ndarray:
        """Whether its user has not met the category of an event before."""
        return self._is_first_of(self.category_T)

    @cached_property
    def opens_session_T(self) -> np.ndarray:
        """Whether an event is the first of its session."""
        return (np.diff(self.session_T, prepend=-1) != 0) | self.is_first_T

    def _is_first_of(self, id_T: np.ndarray) -> np.ndarray:
        key_T = np.cumsum(self.is_first_T) * (int(id_T.max(initial=0)) + 1) + id_T
        _, at = np.unique(key_T, return_index=True)
        is_first_T = np.zeros(len(id_T), bool)
        is_first_T[at] = True
        return is_first_T & (id_T >= len(SPECIAL))

    def is_action_T(self, nth: int) -> np.ndarray:
        """Whether an event is of the vocabulary's nth action."""
        return self.action_T == len(SPECIAL) + nth

    def is_category_T(self, nth: int) -> np.ndarray:
        """Whether an event is of the vocabulary's nth category."""
        return self.category_T == len(SPECIAL) + nth


def summarize(seen: Seen, columns: Columns, ends_n: np.ndarray, now_n: np.ndarray) -> np.ndarray:
    """Counts what was before each example's instant -> float32 [n, F], NaN where there is none.

    Args:
      seen: the events of the examples' users, up to the last that an example sees at least.
      columns: which are counted.
      ends_n: how many of the user's events are before the instant, one or more.
      now_n: unix seconds, not before the last of those events.
    """
    out_nF = np.empty((len(ends_n), columns.width), np.float32)
    for at, column_n in enumerate(_columns(seen, columns, ends_n, now_n)):
        out_nF[:, at] = column_n
    return out_nF


def signed_log(sums_n: np.ndarray) -> np.ndarray:
    """The logarithm of the size of a sum, with its sign."""
    return np.sign(sums_n) * np.log1p(np.abs(sums_n))


def _columns(
    seen: Seen, columns: Columns, ends_n: np.ndarray, now_n: np.ndarray
) -> Iterator[np.ndarray]:
    starts = {w: seen.before(now_n - w) for w in (*WINDOWS, *BY_CATEGORY)} | {0: ends_n * 0}
    # An event of the second of the instant is seen or not by its place, not by its time.
    starts = {window: np.minimum(start_n, ends_n) for window, start_n in starts.items()}
    for value_T in _added_up(seen, columns.actions):
        for window in (*WINDOWS, 0):
            yield signed_log(seen.between(value_T, starts[window], ends_n))
    for nth in range(columns.categories):
        for window in (*BY_CATEGORY, 0):
            yield signed_log(seen.between(seen.is_category_T(nth), starts[window], ends_n))
    last_n = seen.first_n + ends_n - 1
    yield np.log1p(now_n - seen.time_T[last_n])
    yield np.log1p(now_n - seen.time_T[seen.first_n])
    places_T = np.arange(len(seen.time_T))
    for nth in range(columns.actions):
        latest_T = np.maximum.accumulate(np.where(seen.is_action_T(nth), places_T, -1))
        at_n = latest_T[last_n]
        is_there_n = at_n >= seen.first_n
        since_n = now_n - seen.time_T[np.where(is_there_n, at_n, last_n)]
        yield np.where(is_there_n, np.log1p(since_n), np.nan)


def _added_up(seen: Seen, actions: int) -> Iterator[np.ndarray]:
    """What is added up over windows, of each event."""
    yield np.ones(len(seen.time_T))
    yield seen.is_new_T
    yield seen.opens_session_T
    yield seen.value_T
    gap_T = np.diff(seen.time_T, prepend=seen.time_T[:1])
    yield np.log1p(np.where(seen.is_first_T, 0, gap_T))
    for nth in range(actions):
        yield seen.is_action_T(nth)
        yield np.where(seen.is_action_T(nth), seen.value_T, 0.0)
