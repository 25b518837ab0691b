"""Examples: users' histories up to an instant, and what is to be predicted of each.

Several examples may be of one user. A model sees of an example the user's events from `starts` up
to, and without, `ends`; nothing later, whatever the sequences hold.

Shapes: n examples, M candidates of all lists, K numbers known of a candidate.
"""

from dataclasses import dataclass, field, fields

import numpy as np

from models.data.packed import Events
from models.data.places import flat_index
from models.data.rng import Draw
from models.data.sequences import Sequences

HALF_LIFE = 4.0  # windows by which an example of a day before is older, and counts half as much


@dataclass(frozen=True)
class Labeled:
    """Some examples and what is known of them."""

    users_n: np.ndarray  # rows of the sequences
    ends_n: np.ndarray  # how many of the user's events the model may see, int64
    y_n: np.ndarray  # class index, item id (int64) or number (float64)
    starts_n: np.ndarray = field(default=None)  # type: ignore[assignment]  # the first that it sees
    now_n: np.ndarray | None = None  # unix seconds at which it is looked at; else its last event's
    # What an example counts in training: 1, or less of a day before the as-of. Those of one user
    # are in the order of time, so that the newest is the last. None: all are of the as-of day.
    weights_n: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.starts_n is None:
            object.__setattr__(self, "starts_n", np.zeros(len(self.users_n), np.int64))

    @property
    def lengths_n(self) -> np.ndarray:
        """How many events the model sees of each example."""
        return self.ends_n - self.starts_n

    @property
    def is_newest_n(self) -> np.ndarray:
        """Which examples are of the as-of day itself."""
        return is_newest(self.weights_n, len(self.users_n))

    def newest(self) -> "Labeled":
        """The examples of the as-of day alone."""
        return self if self.weights_n is None else self.pick(np.flatnonzero(self.is_newest_n))

    def pick(self, index_n: np.ndarray) -> "Labeled":
        """Returns chosen examples."""
        known = {f.name: getattr(self, f.name) for f in fields(self)}
        chosen = {name: None if x is None else x[index_n] for name, x in known.items()}
        if is_newest(chosen["weights_n"], len(index_n)).all():
            chosen["weights_n"] = None
        return Labeled(**chosen)


def is_newest(weights_n: np.ndarray | None, count: int) -> np.ndarray:
    """Which of some examples are of the as-of day itself, by what they count in training."""
    return np.ones(count, bool) if weights_n is None else weights_n == 1


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
        rows = flat_index(first, lengths)
        return Lists(self.item_M[rows], self.is_relevant_M[rows], self.numbers_MK[rows], lengths)


def whole_histories(sequences: Sequences, users_n: np.ndarray) -> Labeled:
    """One example a user, of all of their events, of which nothing is to be predicted."""
    return Labeled(users_n, sequences.lengths[users_n], np.zeros(len(users_n), np.int64))


def seen_items(sequences: Sequences, examples: Labeled) -> np.ndarray:
    """The item of every event that is seen of each example, one example after the other."""
    lengths_n = examples.lengths_n.astype(np.int64)
    first_n = sequences.offsets[examples.users_n] + examples.starts_n
    return np.asarray(sequences.item[flat_index(first_n, lengths_n)], dtype=np.int64)


def random_windows(sequences: Sequences, examples: Labeled, draw: Draw, max_length: int) -> Events:
    """Reads a window of each example: all that it sees, or max_length events at a random place."""
    taken = np.minimum(examples.lengths_n, max_length)
    start = draw.integers("window", examples.lengths_n - taken + 1)[:, 0]
    first = examples.starts_n + start
    return sequences.windows(examples.users_n, first, taken, examples.now_n)


def last_windows(sequences: Sequences, examples: Labeled, max_length: int) -> Events:
    """Reads the last events of each example, at most max_length."""
    taken = np.minimum(examples.lengths_n, max_length)
    first_n, since_n = examples.ends_n - taken, examples.starts_n
    return sequences.windows(examples.users_n, first_n, taken, examples.now_n, since_n)


def calendar(
    as_of_n: np.ndarray, label_end_n: np.ndarray, is_train_n: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """When examples may be said to be looked at, and what each counts in training.

    An as-of that all held-out examples share comes from the calendar, and may be known; so do those
    of training users at days before it. One of their own follows from what the user did: they are
    cut at the event that is to be predicted, or right after the one before, and the time that has
    gone by would tell when it came. Those are looked at in the second of their last event (None).

    An example of a day before counts half as much for every `HALF_LIFE` windows that it is older.
    """
    shared = np.unique(as_of_n[~is_train_n])
    if len(shared) != 1:
        return None, None
    is_earlier_n = as_of_n < shared[0]
    is_over_n = is_train_n & (label_end_n <= shared[0])
    if not ((as_of_n == shared[0]) | (is_earlier_n & is_over_n)).all():
        return None, None
    if not is_earlier_n.any():
        return as_of_n, None
    windows_n = np.maximum(label_end_n - as_of_n, 1)
    return as_of_n, 0.5 ** ((shared[0] - as_of_n) / windows_n / HALF_LIFE)
