"""Random users in the training-sequences contract, for the benchmarks of training."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.lake.pointers import file_hashes

SPECIAL = ["[PAD]", "[MASK]", "[UNK]"]
ACTIONS, CATEGORIES = 4, 20


def write_log(folder: Path, users: int, items: int = 5000, median: float = 67) -> Path:
    """Writes random sequences of the training-sequences contract and returns the pointer.

    Args:
      folder: where they go.
      users: of whom half have more than `median` events.
      items: of which few are common.
      median: events of a user.
    """
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(median), 0.85, users), 3, 2000).astype(np.int64)
    events = int(lengths.sum())
    item = np.minimum(rng.zipf(1.2, events), items) - 1
    arrays = {
        "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        "item": (3 + item).astype(np.int32),
        "action": rng.integers(3, 3 + ACTIONS, events).astype(np.int32),
        "category": (3 + item % CATEGORIES).astype(np.int32),
        "value": rng.random(events).astype(np.float32),
        "time": np.cumsum(rng.integers(1, 10_000, events)),
        "session": np.concatenate([np.arange(n) // 8 for n in lengths]).astype(np.int32),
        "item_category": np.concatenate([[0] * 3, 3 + np.arange(items) % CATEGORIES]).astype(
            np.int32
        ),
        "document": np.zeros(events, np.int32),  # nothing is said in words
        "item_document": np.zeros(3 + items, np.int32),
        "document_offsets": np.array([0, 0, 1], np.int64),
        "document_tokens": np.array([1], np.int32),
    }
    data = folder / "log"
    data.mkdir()
    for name, array in arrays.items():
        np.save(data / f"{name}.npy", array)
    sizes = {"item": items, "action": ACTIONS, "category": CATEGORIES}
    vocabulary = {field: SPECIAL + [str(n) for n in range(size)] for field, size in sizes.items()}
    (data / "vocabulary.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    pq.write_table(pa.table({"user_id": [str(n) for n in range(users)]}), data / "users.parquet")
    pointer = {"format": 2, "folder": data.name, "files": file_hashes(data)}
    pointer |= {"fingerprint": "random", "vocabulary_hash": pointer["files"]["vocabulary.json"]}
    pointer["train_cutoff"] = "2100-01-01T00:00:00Z"
    (folder / "log.json").write_text(json.dumps(pointer))
    return folder / "log.json"
