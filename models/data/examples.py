"""Examples: users' histories up to an instant, and what is to be predicted of each.

Several examples may be of one user. A model sees of an example the user's events from `starts` up
to, and without, `ends`; nothing later, whatever the sequences hold.

Shapes: n examples, M candidates of all lists, K numbers known of a candidate.
"""

from dataclasses import dataclass, field

import numpy as np
import torch

from models.data.packed import Events, ragged_arange
from models.data.rng import Draw
from models.data.sequences import Sequences


@dataclass(frozen=True)
class Labeled:
    """Some examples and what is known of them."""

    users_n: np.ndarray  # rows of the sequences
    ends_n: np.ndarray  # how many of the user's events the model may see, int64
    y_n: np.ndarray  # class index, item id (int64) or number (float64)
    starts_n: np.ndarray = field(default=None)  # type: ignore[assignment]  # the first that it sees
    now_n: np.ndarray | None = None  # unix seconds at which it is looked at; else its last event's

    def __post_init__(self) -> None:
        if self.starts_n is None:
            object.__setattr__(self, "starts_n", np.zeros(len(self.users_n), np.int64))

    @property
    def lengths_n(self) -> np.ndarray:
        """How many events the model sees of each example."""
        return self.ends_n - self.starts_n

    def pick(self, index_n: np.ndarray) -> "Labeled":
        """Returns chosen examples."""
        names = ("users_n", "ends_n", "y_n", "starts_n")
        now_n = None if self.now_n is None else self.now_n[index_n]
        return Labeled(*(getattr(self, name)[index_n] for name in names), now_n=now_n)


@dataclass(frozen=True)
class Lists:
    """The candidates of each example, one list after the other."""

    item_M: np.ndarray
    is_relevant_M: np.ndarray
    numbers_MK: np.ndarray  # float64, NaN where one is not known
    lengths_n: np.ndarray

    def pick(self, index_n: np.ndarray) -> "Lists":
        """The lists of chosen examples."""
        lengths = self.lengths_n[index_n]
        first = (np.cumsum(self.lengths_n) - self.lengths_n)[index_n]
        nth = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        rows = np.repeat(first, lengths) + nth
        return Lists(self.item_M[rows], self.is_relevant_M[rows], self.numbers_MK[rows], lengths)


def whole_histories(sequences: Sequences, users_n: np.ndarray) -> Labeled:
    """One example a user, of all of their events, of which nothing is to be predicted."""
    return Labeled(users_n, sequences.lengths[users_n], np.zeros(len(users_n), np.int64))


def seen_items(sequences: Sequences, examples: Labeled) -> np.ndarray:
    """The item of every event that is seen of each example, one example after the other."""
    lengths_n = examples.lengths_n.astype(np.int64)
    first_n = sequences.offsets[examples.users_n] + examples.starts_n
    nth = ragged_arange(torch.from_numpy(lengths_n)).numpy()
    return np.asarray(sequences.item[np.repeat(first_n, lengths_n) + nth], dtype=np.int64)


def random_windows(sequences: Sequences, examples: Labeled, draw: Draw, max_length: int) -> Events:
    """Reads a window of each example: all that it sees, or max_length events at a random place."""
    taken = np.minimum(examples.lengths_n, max_length)
    start = draw.integers("window", examples.lengths_n - taken + 1)[:, 0]
    first = examples.starts_n + start
    return sequences.windows(examples.users_n, first, taken, examples.now_n)


def last_windows(sequences: Sequences, examples: Labeled, max_length: int) -> Events:
    """Reads the last events of each example, at most max_length."""
    taken = np.minimum(examples.lengths_n, max_length)
    return sequences.windows(examples.users_n, examples.ends_n - taken, taken, examples.now_n)


def calendar_instants(as_of_n: np.ndarray) -> np.ndarray | None:
    """When examples may be said to be looked at; None: in the second of their last event.

    An as-of that all examples share comes from the calendar, and may be known. One of their own
    follows from what the user did: they are cut at the event that is to be predicted, or right
    after the one before, and the time that has gone by would tell when it came.
    """
    return as_of_n if len(np.unique(as_of_n)) == 1 else None


def events_before(sequences: Sequences, users_n: np.ndarray, second_n: np.ndarray) -> np.ndarray:
    """Counts each user's events before a second -> int64 [n]. Events of that second do not count.

    A binary search in all histories at once: it touches few events of a map that may be large.
    """
    first = sequences.offsets[users_n]
    low, high = np.zeros(len(users_n), np.int64), sequences.lengths[users_n].astype(np.int64)
    while (open_n := low < high).any():
        middle = (low + high) // 2
        at = np.minimum(first + middle, len(sequences.time) - 1)
        is_before = open_n & (sequences.time[at] < second_n)
        low = np.where(is_before, middle + 1, low)
        high = np.where(open_n & ~is_before, middle, high)
    return low
