"""Small sequences and labels with a pattern planted in them, written as `features/` writes them."""

import datetime as dt
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.base.hashing import hash_file
from contracts.lake.pointers import file_hashes
from contracts.lake.schemas import LABELS

SPECIAL = ["[PAD]", "[MASK]", "[UNK]"]
CUTOFF = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
START = int(dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp())
ITEMS = 40
MARKERS = ["[TITLE]", "[CATEGORY]", "[QUERY]"]
TOKENS = [*SPECIAL, *MARKERS, "item", *(f"n{n}" for n in range(10))]
TOKENS += [*(f"ten{n}" for n in range(4)), "left", "right", "hat", "shoe", "coat"]


def sessions_of(time: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Numbers the sessions of events by their pauses of more than half an hour."""
    begins = np.diff(time, prepend=0) > 1800
    return np.concatenate(
        [np.cumsum(begins[a:b]) - begins[a] for a, b in itertools.pairwise(offsets)] or [time[:0]]
    ).astype(np.int32)


def write_sequences(folder: Path, lengths: list[int], seed: int = 0, **changes: Any) -> Path:
    """Writes users of the given lengths; user n prefers items of half n % 2. Returns the pointer.

    `changes` replace arrays or pointer fields by name; `text=True` adds a title and a category of
    each item, and a query of each event without one.
    """
    rng = np.random.default_rng(seed)
    events = sum(lengths)
    half = np.repeat(np.arange(len(lengths)) % 2, lengths)
    own = rng.random(events) < 0.9
    item = rng.integers(0, ITEMS // 2, events) + np.where(own, half, 1 - half) * (ITEMS // 2)
    arrays = {
        "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        "item": (item + 3).astype(np.int32),
        "action": rng.integers(3, 5, events).astype(np.int32),
        "category": (item // (ITEMS // 4) + 3).astype(np.int32),
        "value": rng.random(events).astype(np.float32),
        "time": np.concatenate(
            [START + np.cumsum(rng.integers(1, 5000, n)) for n in lengths] or [np.zeros(0)]
        ).astype(np.int64),
        "item_category": np.array(
            [0] * 3 + [3 + n // (ITEMS // 4) for n in range(ITEMS)], np.int32
        ),
    }
    arrays |= {k: v for k, v in changes.items() if k in arrays}
    arrays |= documents_of(arrays["item"]) if changes.get("text") else no_documents(events)
    arrays |= {k: v for k, v in changes.items() if k in arrays}
    arrays["session"] = changes.get("session", sessions_of(arrays["time"], arrays["offsets"]))
    data = folder / "sequences" / "2026-01-31-0123abcd"
    data.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(data / f"{name}.npy", array)
    vocabulary = {
        "item": SPECIAL + [f"item-{n}" for n in range(ITEMS)],
        "action": [*SPECIAL, "view", "purchase"],
        "category": SPECIAL + [f"category-{n}" for n in range(4)],
    }
    if changes.get("text"):
        vocabulary["token"] = TOKENS
    (data / "vocabulary.json").write_text(json.dumps(vocabulary))
    pq.write_table(pa.table({"user_id": user_names(len(lengths))}), data / "users.parquet")
    pointer = {
        "format": 2,
        "folder": data.name,
        "files": file_hashes(data),
        "fingerprint": f"data-{seed}-{events}",
        "vocabulary_hash": hash_file(data / "vocabulary.json"),
        "train_cutoff": CUTOFF.isoformat(),
        "users": len(lengths),
        "events": events,
    }
    pointer |= {k: v for k, v in changes.items() if k in pointer}
    path = folder / "sequences" / "2026-01-31.json"
    path.write_text(json.dumps(pointer))
    return path


def no_documents(events: int) -> dict[str, np.ndarray]:
    """The arrays of texts where nothing is said in words."""
    return {
        "document": np.zeros(events, np.int32),
        "document_offsets": np.array([0, 0, 1], np.int64),
        "document_tokens": np.array([1], np.int32),
        "item_document": np.zeros(ITEMS + len(SPECIAL), np.int32),
    }


def documents_of(item: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of texts: `[TITLE] item <n> [CATEGORY] <half>`, or one of three queries.

    Documents 2 to 41 are of the items in order, 42 to 44 are queries.
    """
    first = len(SPECIAL) + len(MARKERS)
    title, category, query = (SPECIAL + MARKERS).index("[TITLE]"), 4, 5
    numbers = [n % 10 for n in range(ITEMS)]
    texts = [[], [1]]
    texts += [
        [title, first, first + 1 + n, first + 11 + k // 10, category, first + 15 + k // 20]
        for k, n in enumerate(numbers)
    ]
    texts += [[query, first + 17 + n] for n in range(3)]
    known = item >= len(SPECIAL)
    asked = ITEMS + 2 + np.arange(len(item)) % 3
    return {
        "document": np.where(known, item - 1, np.where(item == 0, asked, 0)).astype(np.int32),
        "document_offsets": np.cumsum([0, *map(len, texts)]).astype(np.int64),
        "document_tokens": np.concatenate([np.array(t, np.int32) for t in texts]),
        "item_document": np.array([0, 0, 0, *range(2, ITEMS + 2)], np.int32),
    }


def user_names(count: int) -> list[str]:
    return [f"user-{n:04d}" for n in range(count)]


def write_labels(path: Path, rows: list[dict]) -> Path:
    """Writes label rows; each gives user_id, task and value, and may change the rest."""
    common = {"as_of": CUTOFF, "label_end": CUTOFF, "label": None, "split": "train"}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([common | row for row in rows], schema=LABELS), path)
    return path


def planted_labels(users: int) -> list[dict]:
    """Labels that follow from which half of the items a user prefers; `activity` is a number."""
    split = ["train"] * 7 + ["valid"] + ["test"] * 2
    names = user_names(users)
    halves = [
        {
            "user_id": name,
            "task": "half",
            "value": float(n % 2),
            "label": ["left", "right"][n % 2],
        }
        for n, name in enumerate(names)
    ]
    numbers = [
        {"user_id": name, "task": "number", "value": 100.0 * (n % 2) + 50.0}
        for n, name in enumerate(names)
    ]
    rows = [row | {"split": split[(n // 2) % 10]} for n, row in enumerate(halves)]
    return rows + [row | {"split": split[(n // 2) % 10]} for n, row in enumerate(numbers)]
