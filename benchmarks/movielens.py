"""MovieLens 1M as next-item benchmarks read it, and as training sequences in memory.

Order: within a user by timestamp; ratings of one second in the order of the file. All users and all
items that anybody rated.

Shapes: U users, N ratings, V items of the vocabulary.
"""

import dataclasses
import datetime as dt
import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.data.examples import Labeled
from models.data.packed import SPECIAL
from models.data.sequences import Sequences, sequences_of

AFTER = dt.datetime(2004, 1, 1, tzinfo=dt.UTC)  # the last rating


@dataclass(frozen=True)
class Log:
    """All ratings, one user after the other, each in the order of time."""

    user_id_U: np.ndarray
    movie_id_V: np.ndarray  # without the special items
    offsets: np.ndarray  # int64 [U + 1]
    item_N: np.ndarray  # position in the vocabulary, after the special items
    time_N: np.ndarray

    @property
    def lengths_U(self) -> np.ndarray:
        """Ratings of each user."""
        return np.diff(self.offsets)

    def without_last(self, count: int) -> np.ndarray:
        """Which ratings are left where the last ones of each user are left out, bool [N]."""
        behind_N = np.repeat(self.offsets[1:], self.lengths_U) - np.arange(len(self.item_N))
        return behind_N > count

    def sequences(self, held_out: int = 0) -> Sequences:
        """All users, without their last ratings."""
        kept_N = self.without_last(held_out)
        events, items = int(kept_N.sum()), len(self.movie_id_V)
        none, ones = np.zeros(events, np.int32), np.full(events, len(SPECIAL), np.int32)
        arrays = {
            "offsets": self.offsets - held_out * np.arange(len(self.offsets)),
            "item": self.item_N[kept_N],
            "action": ones,
            "category": ones,
            "value": none.astype(np.float32),
            "time": self.time_N[kept_N],
            "session": none,
            "document": none,
            "item_category": np.zeros(len(SPECIAL) + items, np.int32),
            "item_document": np.zeros(len(SPECIAL) + items, np.int32),
            "document_offsets": np.array([0, 0, 1], np.int64),
            "document_tokens": np.array([1], np.int32),
        }
        names = {"item": self.movie_id_V, "action": ["rate"], "category": ["film"]}
        vocabulary = {field: [*SPECIAL, *map(str, known)] for field, known in names.items()}
        found = sequences_of(arrays, vocabulary, AFTER)
        content = hashlib.sha256(arrays["item"].tobytes() + arrays["time"].tobytes()).hexdigest()
        pointer = found.pointer | {"fingerprint": content, "vocabulary_hash": content}
        return dataclasses.replace(found, pointer=pointer)

    def examples(self, from_last: int, with_time: bool) -> Labeled:
        """One example a user: what came before a rating, 1 the last, and which film it is of.

        Args:
          from_last: which rating is asked for.
          with_time: it is known when it comes; else a model is asked in the second of the one
            before.
        """
        at_U = self.offsets[1:] - from_last
        return Labeled(
            users_n=np.arange(len(at_U)),
            ends_n=self.lengths_U - from_last,
            y_n=self.item_N[at_U].astype(np.int64),
            now_n=self.time_N[at_U] if with_time else None,
        )


def read_movielens(folder: Path) -> Log:
    """Reads ratings.dat, plain or gzipped."""
    path = folder / "ratings.dat"
    if not path.exists():
        path = folder / "ratings.dat.gz"
    if not path.exists():
        raise SystemExit(f"{folder} has no ratings.dat: take ml-1m.zip from grouplens.org")
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    numbers = np.array(content.replace(b"::", b" ").split(), dtype=np.int64)
    user_N, movie_N, _, time_N = numbers.reshape(-1, 4).T
    order_N = np.lexsort((time_N, user_N))  # stable
    user_id_U, lengths_U = np.unique(user_N, return_counts=True)
    movie_id_V, index_N = np.unique(movie_N, return_inverse=True)
    return Log(
        user_id_U,
        movie_id_V,
        np.concatenate([[0], np.cumsum(lengths_U)]).astype(np.int64),
        (len(SPECIAL) + index_N[order_N]).astype(np.int32),
        time_N[order_N],
    )
