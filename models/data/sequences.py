"""Training sequences, memory-mapped: reading a batch copies that batch and nothing else.

Comes in: the pointer that `features/` publishes and the folder of flat arrays that it names.
Goes out: `Events`, the windows of chosen users, and events of other users to tell them from.
"""

import dataclasses
import datetime as dt
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from contracts.base.errors import FootpathError
from contracts.lake.reading import read_json
from models.data.age import Clock
from models.data.documents import Documents
from models.data.packed import Events, ragged_arange
from models.data.rng import Draw
from models.data.sequence_files import check_arrays, map_arrays, read_vocabulary

FORMAT = 1  # of the pointer and the arrays that it names


@dataclass(frozen=True)
class Sequences:
    """U users and their N events. Field arrays are maps of files; nothing is loaded."""

    path: Path  # of the pointer, for messages
    offsets: np.ndarray  # int64 [U+1]
    item: np.ndarray
    action: np.ndarray
    category: np.ndarray
    value: np.ndarray
    time: np.ndarray
    document: np.ndarray  # of each event; 0 is none
    item_category: np.ndarray
    item_document: np.ndarray
    document_offsets: np.ndarray
    document_tokens: np.ndarray
    vocabulary: dict[str, list[str]]
    pointer: dict
    has_clock: bool = False  # do windows tell when they are looked at?

    @property
    def users(self) -> int:
        """How many users there are."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Events of each user, int64 [U]."""
        return np.diff(self.offsets)

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each vocabulary."""
        return {field: len(names) for field, names in self.vocabulary.items()}

    @property
    def has_text(self) -> bool:
        """Tells whether any event says something in words."""
        return len(self.document_offsets) > 3

    @cached_property
    def documents(self) -> Documents:
        """All texts; read from the files once."""
        return Documents.of(self.document_tokens, self.document_offsets)

    @cached_property
    def cutoff(self) -> int:
        """The unix second that every event is before."""
        return int(dt.datetime.fromisoformat(self.pointer["train_cutoff"]).timestamp())

    def with_clock(self, asked: bool = True) -> "Sequences":
        """Returns the same sequences, whose windows tell when they are looked at, or do not."""
        return dataclasses.replace(self, has_clock=asked)

    def user_ids(self) -> list[str]:
        """Returns the user ids in row order."""
        column = pq.read_table(self.path.parent / self.pointer["folder"] / "users.parquet")
        return column["user_id"].to_pylist()

    def windows(
        self,
        users_N: np.ndarray,
        start_N: np.ndarray,
        length_N: np.ndarray,
        now_N: np.ndarray | None = None,
    ) -> Events:
        """Reads N windows; a start counts from the user's first event.

        With a clock they are looked at in the unix seconds `now_N`, or else, which tells nothing of
        what came later, in the second of their last event.
        """
        clock = None
        if self.has_clock and now_N is not None:
            clock = Clock.at(_as_ids(now_N))
        elif self.has_clock:
            clock = self._clock(users_N, start_N + length_N, np.zeros(len(users_N)))
        return self._windows(users_N, start_N, length_N, clock)

    def random_windows(self, draw: Draw, max_length: int) -> Events:
        """Reads a window of each user of the draw: all events, or max_length at a random place.

        With a clock, now lies between its last event and the user's next one or, where there is
        none, the cutoff.
        """
        users, lengths = draw.users_B, self.lengths[draw.users_B]
        taken = np.minimum(lengths, max_length)
        start = draw.integers("window", lengths - taken + 1)[:, 0]
        clock = None
        if self.has_clock:
            clock = self._clock(users, start + taken, draw.uniform("now", 1)[:, 0])
        return self._windows(users, start, taken, clock)

    def _clock(self, users_N: np.ndarray, ends_N: np.ndarray, chance_N: np.ndarray) -> Clock:
        after_N = self.offsets[users_N] + ends_N
        next_N = self.time[np.minimum(after_N, len(self.time) - 1)]
        is_last_N = ends_N >= self.lengths[users_N]
        last_N = self.time[after_N - 1]
        # Held-out events came before the cutoff: it is not known that nothing happened until then.
        known_N = last_N if self.pointer.get("holdout") else self.cutoff
        return Clock.between(
            _as_ids(last_N),
            _as_ids(np.where(is_last_N, known_N, next_N)),
            torch.from_numpy(chance_N),
        )

    def _windows(
        self, users_N: np.ndarray, start_N: np.ndarray, length_N: np.ndarray, clock: Clock | None
    ) -> Events:
        lengths = torch.from_numpy(length_N.astype(np.int64))
        first = np.repeat(self.offsets[users_N] + start_N, length_N)
        index = first + ragged_arange(lengths).numpy()
        own_first = np.repeat(self.offsets[users_N], length_N)
        before = np.where(index > own_first, index - 1, index)
        return self._events(index, lengths, before, clock)

    def others(self, draw: Draw, count: int) -> Events:
        """Reads, for each user of the draw, `count` events of other users, by popularity.

        Every event of every other user is equally likely.
        """
        own = self.lengths[draw.users_B]
        index = draw.integers("others", self.offsets[-1] - own, count)
        index += np.where(index >= self.offsets[draw.users_B][:, None], own[:, None], 0)
        flat = index.reshape(-1)
        lengths = torch.full((len(own),), count, dtype=torch.int64)
        return self._events(flat, lengths, before=flat)

    def _events(
        self,
        index: np.ndarray,
        lengths: torch.Tensor,
        before: np.ndarray,
        clock: Clock | None = None,
    ) -> Events:
        time = self.time[index]
        return Events(
            item_T=_as_ids(self.item[index]),
            action_T=_as_ids(self.action[index]),
            category_T=_as_ids(self.category[index]),
            document_T=_as_ids(self.document[index]),
            gap_T=_as_ids(gap_buckets(time - self.time[before], index == before)),
            value_T=torch.from_numpy(np.asarray(self.value[index])),
            time_T=_as_ids(time),
            position_T=ragged_arange(lengths),
            lengths_B=lengths,
            clock=clock,
        )


def gap_buckets(seconds: np.ndarray, is_first: np.ndarray) -> np.ndarray:
    """Returns 0 for a user's first event, else 2 + floor(log2(seconds + 1)); 1 means hidden.

    Buckets as in the PTUM authors' script, but to the event before: the next would tell the future.
    """
    whole = np.clip(seconds, 0, 2**31 - 2) + 1
    bucket = 2 + np.frexp(whole.astype(np.float64))[1].astype(np.int64) - 1
    return np.where(is_first, 0, bucket)


def open_sequences(path: Path) -> Sequences:
    """Maps the arrays that a pointer names, and checks every value once.

    Raises:
      FootpathError: a file is missing or malformed, an id is outside its vocabulary, a value is not
        finite, a user's events are out of order, or there are no users.
    """
    pointer = read_json(path)
    if (told := pointer.get("format")) != FORMAT:
        raise FootpathError(
            f"{path} is of format {told}, and format {FORMAT} is read here: "
            f"rebuild training_sequences"
        )
    for key in ("folder", "fingerprint", "vocabulary_hash", "train_cutoff"):
        if key not in pointer:
            raise FootpathError(f"{path}: field '{key}' is missing: rebuild training_sequences")
    folder = path.parent / pointer["folder"]
    sequences = Sequences(
        path=path,
        **map_arrays(folder),
        vocabulary=read_vocabulary(folder / "vocabulary.json"),
        pointer=pointer,
    )
    check_arrays(sequences, folder)
    return sequences


def epoch_batches(users: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Returns the users of an epoch in random order, cut into batches; every user is in one."""
    order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(users)
    return [order[n : n + batch_size] for n in range(0, len(order), batch_size)]


def chunks(
    lengths: np.ndarray, users: np.ndarray, max_length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts whole histories into chunks of nearly equal length, none above max_length.

    Returns:
      For each chunk: position of its user in `users`, start in the user's history, length. Together
      the chunks hold every event once.
    """
    events = lengths[users]
    count = -(-events // max_length)
    owner = np.repeat(np.arange(len(users)), count)
    nth = ragged_arange(torch.from_numpy(count.astype(np.int64))).numpy()
    base, longer = events[owner] // count[owner], events[owner] % count[owner]
    return owner, nth * base + np.minimum(nth, longer), base + (nth < longer)


def blocks(sizes: np.ndarray, budget: int) -> Iterator[slice]:
    """Cuts a run of sizes into slices whose sum is about `budget`; each holds one at least."""
    if len(sizes):
        block = (np.cumsum(sizes) - sizes) // budget
        edges = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(sizes)]
        for start, stop in itertools.pairwise(edges):
            yield slice(start, stop)


def same_vocabulary(sequences: Sequences, vocabulary_hash: str, checkpoint: Path) -> None:
    """Refuses sequences that were encoded with another vocabulary than a checkpoint's.

    Raises:
      FootpathError: the hashes differ.
    """
    if sequences.pointer["vocabulary_hash"] != vocabulary_hash:
        raise FootpathError(
            f"{sequences.path} was encoded with another vocabulary than the checkpoint "
            f"{checkpoint}: build the sequences with the checkpoint's vocabulary.json, "
            f"or train on these sequences"
        )


def vocabulary_text(sequences: Sequences) -> str:
    """Returns the vocabulary as the JSON text that a checkpoint keeps."""
    return json.dumps(sequences.vocabulary, ensure_ascii=False)


def _as_ids(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, dtype=np.int64))
