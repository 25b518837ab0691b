"""The files of training sequences: mapped, and every value checked once.

Comes in: the folder that a pointer names. Goes out: flat arrays, maps of its files.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from contracts.base.errors import FootpathError
from contracts.lake.reading import read_json

if TYPE_CHECKING:
    from models.data.sequences import Sequences

SPECIAL = ["[PAD]", "[MASK]", "[UNK]"]
_ARRAYS = {
    "item": np.int32,
    "action": np.int32,
    "category": np.int32,
    "value": np.float32,
    "time": np.int64,
}
_TEXT = {
    "document": np.int32,
    "document_offsets": np.int64,
    "document_tokens": np.int32,
    "item_document": np.int32,
}
_BLOCK = 1 << 22  # events that are checked at a time


def map_arrays(folder: Path) -> dict[str, np.ndarray]:
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


def read_vocabulary(path: Path) -> dict[str, list[str]]:
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


def check_arrays(sequences: "Sequences", folder: Path) -> None:
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


def _check_block(sequences: "Sequences", folder: Path, start: int, stop: int) -> None:
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
    backwards = np.zeros(stop - start, dtype=bool)
    backwards[1:] = np.diff(sequences.time[start:stop]) < 0
    firsts = sequences.offsets[:-1]
    backwards[firsts[(firsts >= start) & (firsts < stop)] - start] = False
    _refuse(
        backwards, sequences, start, f"{folder}/time.npy: an event is earlier than the one before"
    )


def _check_text(sequences: "Sequences", folder: Path) -> None:
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


def _refuse(broken: np.ndarray, sequences: "Sequences", start: int, what: str) -> None:
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
