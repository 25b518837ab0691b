"""Training sequences, memory-mapped: reading a batch copies that batch and nothing else.

Comes in: the pointer that `features/` publishes and the folder of flat arrays that it names.
Goes out: `Events`, the windows of chosen users, and events of other users to tell them from. Every
value is checked once, when the files are opened.
"""

import dataclasses
import datetime as dt
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from contracts.base.errors import FootpathError
from contracts.lake.pointers import check_files, folder_beside
from contracts.lake.reading import read_json
from models.data.batching import blocks
from models.data.documents import Documents
from models.data.packed import SPECIAL, Clock, Events, gap_buckets, ragged_arange
from models.data.places import flat_index, places_before
from models.data.rng import Draw
from models.data.summary import Columns, Seen, summarize

_ARRAYS = {
    "item": np.int32,
    "action": np.int32,
    "category": np.int32,
    "value": np.float32,
    "time": np.int64,
    "session": np.int32,
}
_TEXT = {
    "document": np.int32,
    "document_offsets": np.int64,
    "document_tokens": np.int32,
    "item_document": np.int32,
}
_FILES = [
    *(f"{name}.npy" for name in ("offsets", *_ARRAYS, "item_category", *_TEXT)),
    "vocabulary.json",
    "users.parquet",
]
_BLOCK = 1 << 22  # events that are checked at a time
_SEEN = 1 << 18  # events that are summarized at a time, or those of one user

FORMAT = 2  # of the pointer and the arrays that it names
IN_MEMORY = Path("(memory)")  # in the place of a file, for messages


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
    session: np.ndarray  # of each event, counted from 0 for each user
    document: np.ndarray  # of each event; 0 is none
    item_category: np.ndarray
    item_document: np.ndarray
    document_offsets: np.ndarray
    document_tokens: np.ndarray
    vocabulary: dict[str, list[str]]
    pointer: dict
    has_clock: bool = False  # do windows tell when they are looked at?
    has_sessions: bool = True  # and in which session each event is?
    has_summary: bool = False  # and what is counted of the whole history up to their end?

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
        """Whether their vocabulary has words, be it that none of these events says any."""
        return self.sizes.get("token", 0) > len(SPECIAL)

    @cached_property
    def documents(self) -> Documents:
        """All texts; read from the files once."""
        return Documents.of(self.document_tokens, self.document_offsets)

    @cached_property
    def cutoff(self) -> int:
        """The unix second that every event is before."""
        return int(dt.datetime.fromisoformat(self.pointer["train_cutoff"]).timestamp())

    def with_clock(self, asked: bool = True) -> "Sequences":
        """The same sequences, whose windows tell when they are looked at, or do not."""
        return dataclasses.replace(self, has_clock=asked)

    def user_ids(self) -> list[str]:
        """The user ids in row order."""
        column = pq.read_table(folder_beside(self.path, self.pointer) / "users.parquet")
        return column["user_id"].to_pylist()

    def windows(
        self,
        users_N: np.ndarray,
        start_N: np.ndarray,
        length_N: np.ndarray,
        now_N: np.ndarray | None = None,
        since_N: np.ndarray | None = None,
    ) -> Events:
        """Reads N windows; a start counts from the user's first event.

        With a clock or a summary they are looked at in the unix seconds `now_N`, or else, which
        tells nothing of what came later, in the second of their last event. A summary is of the
        events from `since_N` on, or else from the user's first.
        """
        clock = None
        if self.has_clock and now_N is not None:
            clock = Clock.at(_as_ids(now_N))
        elif self.has_clock:
            clock = self._clock(users_N, start_N + length_N, np.zeros(len(users_N)))
        windows = self._windows(users_N, start_N, length_N, clock)
        if not self.has_summary:
            return windows
        ends_N = start_N + length_N
        if now_N is None:
            now_N = self.time[self.offsets[users_N] + ends_N - 1]
        since_N = np.zeros(len(users_N), np.int64) if since_N is None else since_N
        summary_NF = self.summaries(users_N, since_N, ends_N, now_N)
        return dataclasses.replace(windows, summary_BF=torch.from_numpy(summary_NF))

    def summaries(
        self, users_n: np.ndarray, starts_n: np.ndarray, ends_n: np.ndarray, now_n: np.ndarray
    ) -> np.ndarray:
        """Summaries of n stretches of histories -> float32 [n, F] (summary.py).

        Args:
          users_n: rows of users; one may come several times.
          starts_n: the first event that is seen, counted from the user's first.
          ends_n: the first that is not seen any more, after `starts_n`.
          now_n: unix seconds at which they are looked at.
        """
        columns = Columns.of(self.sizes)
        parts = [np.zeros((0, columns.width), np.float32)]
        for block in blocks(ends_n - starts_n, _SEEN):
            seen = self.seen(users_n[block], starts_n[block], ends_n[block])
            lengths_b = ends_n[block] - starts_n[block]
            parts.append(summarize(seen, columns, lengths_b, now_n[block]))
        return np.concatenate(parts)

    def seen(self, users_n: np.ndarray, starts_n: np.ndarray, ends_n: np.ndarray) -> Seen:
        """Reads n stretches of histories; those that begin alike share their events."""
        first_n = self.offsets[users_n] + starts_n
        first_u, of_n = np.unique(first_n, return_inverse=True)
        length_u = np.zeros(len(first_u), np.int64)
        np.maximum.at(length_u, of_n, ends_n - starts_n)
        index_T = flat_index(first_u, length_u)
        at_u = np.cumsum(length_u) - length_u
        is_first_T = np.zeros(len(index_T), bool)
        is_first_T[at_u[length_u > 0]] = True
        fields = {f"{name}_T": np.asarray(getattr(self, name)[index_T]) for name in _ARRAYS}
        return Seen(at_u[of_n], length_u[of_n], is_first_T, **fields)

    def events_before(self, users_n: np.ndarray, second_n: np.ndarray) -> np.ndarray:
        """Counts each user's events before a second -> int64 [n]; those of that second do not."""
        return places_before(self.time, self.offsets[users_n], self.lengths[users_n], second_n)

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
        index = flat_index(self.offsets[users_N] + start_N, length_N)
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
            session_T=_as_ids(self.session[index]) if self.has_sessions else None,
        )


def open_sequences(path: Path) -> Sequences:
    """Maps the arrays that a pointer names, and checks every value once.

    Raises:
      FootpathError: a file is missing, changed or malformed, an id is outside its vocabulary, a
        value is not finite, a user's events are out of order, or there are no users.
    """
    pointer = read_json(path)
    if (told := pointer.get("format")) != FORMAT:
        raise FootpathError(
            f"{path} is of format {told}, and format {FORMAT} is read here: "
            f"rebuild training_sequences"
        )
    for key in ("folder", "files", "fingerprint", "vocabulary_hash", "train_cutoff"):
        if key not in pointer:
            raise FootpathError(f"{path}: field '{key}' is missing: rebuild training_sequences")
    folder = folder_beside(path, pointer)
    check_files(path, pointer, _FILES, "rebuild training_sequences")
    sequences = Sequences(
        path=path,
        **_map_arrays(folder),
        vocabulary=_read_vocabulary(folder / "vocabulary.json"),
        pointer=pointer,
    )
    _check_arrays(sequences, folder)
    return sequences


def sequences_of(
    arrays: dict[str, np.ndarray], vocabulary: dict[str, list[str]], cutoff: dt.datetime
) -> Sequences:
    """Sequences of arrays in memory, every value checked.

    Args:
      arrays: by name, as files hold them.
      vocabulary: that they were encoded with.
      cutoff: an instant that every event is before.

    Raises:
      FootpathError: as of files.
    """
    pointer = {"train_cutoff": cutoff.isoformat()}
    sequences = Sequences(path=IN_MEMORY, **arrays, vocabulary=vocabulary, pointer=pointer)
    _check_arrays(sequences, IN_MEMORY)
    return sequences


def _map_arrays(folder: Path) -> dict[str, np.ndarray]:
    """Maps all arrays of a folder, by their names.

    Raises:
      FootpathError: one is missing, cannot be read or is of another type.
    """
    return {
        "offsets": _map(folder / "offsets.npy", np.int64),
        **{name: _map(folder / f"{name}.npy", dtype) for name, dtype in _ARRAYS.items()},
        "item_category": _map(folder / "item_category.npy", np.int32),
        **{name: _map(folder / f"{name}.npy", dtype) for name, dtype in _TEXT.items()},
    }


def _read_vocabulary(path: Path) -> dict[str, list[str]]:
    """Reads the names of all ids.

    Raises:
      FootpathError: a field is missing, or does not begin with the special names.
    """
    vocabulary = read_json(path)
    for field in ("item", "action", "category", *(["token"] if "token" in vocabulary else [])):
        names = vocabulary.get(field)
        if not isinstance(names, list) or names[:3] != SPECIAL:
            raise FootpathError(
                f"{path}: field '{field}' must be a list that begins with [PAD], [MASK], [UNK]: "
                f"rebuild training_sequences"
            )
    return vocabulary


def _check_arrays(sequences: Sequences, folder: Path) -> None:
    """Checks every value once.

    Raises:
      FootpathError: an id is outside its vocabulary, a value is not finite, a user's events are out
        of order, or there are no users.
    """
    _check_text(sequences, folder)
    offsets, events = sequences.offsets, len(sequences.item)
    if sequences.users < 1 or events == 0:
        raise FootpathError(
            f"{folder} has no users with events: is there any event before "
            f"{sequences.pointer['train_cutoff']}?"
        )
    if offsets[0] != 0 or offsets[-1] != events or (np.diff(offsets) < 0).any():
        raise FootpathError(f"{folder}/offsets.npy does not divide the {events} events of item.npy")
    for name in (*_ARRAYS, "document"):
        if len(getattr(sequences, name)) != events:
            raise FootpathError(f"{folder}/{name}.npy and item.npy differ in length")
    for start in range(0, events, _BLOCK):
        _check_block(sequences, folder, start, min(start + _BLOCK, events))


def _check_block(sequences: Sequences, folder: Path, start: int, stop: int) -> None:
    sizes = {name: sequences.sizes[name] for name in ("item", "action", "category")}
    sizes["document"] = len(sequences.document_offsets) - 1
    for name, size in sizes.items():
        ids = getattr(sequences, name)[start:stop]
        _refuse(
            (ids < 0) | (ids >= size), sequences, start,
            f"{folder}/{name}.npy: an id is outside the {size} that there are",
        )  # fmt: skip
    values = sequences.value[start:stop]
    _refuse(~np.isfinite(values), sequences, start, f"{folder}/value.npy: a value is not a number")
    firsts = sequences.offsets[:-1]
    firsts = firsts[(firsts >= start) & (firsts < stop)] - start
    for name, fault in (("time", "earlier"), ("session", "of an earlier session")):
        backwards = np.zeros(stop - start, dtype=bool)
        backwards[1:] = np.diff(getattr(sequences, name)[start:stop]) < 0
        backwards[firsts] = False
        _refuse(
            backwards, sequences, start,
            f"{folder}/{name}.npy: an event is {fault} than the one before",
        )  # fmt: skip


def _check_text(sequences: Sequences, folder: Path) -> None:
    offsets, tokens = sequences.document_offsets, sequences.document_tokens
    known = len(sequences.vocabulary.get("token", SPECIAL))
    if len(offsets) < 3 or offsets[0] != 0 or offsets[-1] != len(tokens):
        fault = f"document_offsets.npy does not divide the {len(tokens)} tokens"
    elif (np.diff(offsets) < 0).any() or offsets[1] != 0:
        fault = "document_offsets.npy runs backwards, or document 0 is not empty"
    elif ((tokens < 0) | (tokens >= known)).any():
        fault = f"document_tokens.npy: an id is outside the vocabulary of {known} tokens"
    elif len(sequences.item_document) != sequences.sizes["item"]:
        fault = "item_document.npy and the item vocabulary differ in length"
    elif ((sequences.item_document < 0) | (sequences.item_document >= len(offsets) - 1)).any():
        fault = "item_document.npy names a document that is not there"
    else:
        return
    raise FootpathError(f"{folder}/{fault}: rebuild training_sequences")


def _refuse(broken: np.ndarray, sequences: Sequences, start: int, what: str) -> None:
    if broken.any():
        event = start + int(np.argmax(broken))
        row = int(np.searchsorted(sequences.offsets, event, side="right")) - 1
        user = sequences.user_ids()[row]
        raise FootpathError(
            f"{what} (event {event - sequences.offsets[row]} of user '{user}', "
            f"counted from 0): rebuild training_sequences"
        )


def _map(path: Path, dtype: type) -> np.ndarray:
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise FootpathError(f"{path} is not there: rebuild training_sequences") from None
    except (ValueError, EOFError, OSError) as error:
        raise FootpathError(f"{path} is not a NumPy array that can be read ({error})") from None
    if mapped.dtype != dtype or mapped.ndim != 1:
        raise FootpathError(
            f"{path}: expected a flat array of {np.dtype(dtype)}, "
            f"found {mapped.dtype} of shape {mapped.shape}"
        )
    return mapped.view(np.ndarray)  # still a map of the file, without np.memmap's slow indexing


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
    """The vocabulary as the JSON text that a checkpoint keeps."""
    return json.dumps(sequences.vocabulary, ensure_ascii=False)


def _as_ids(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, dtype=np.int64))
