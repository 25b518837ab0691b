"""How many events a second each recipe pre-trains on.

    python benchmarks/train_throughput.py [--users 2000] [--steps 8] [--threads 1]

One counted event is one real position that goes forward and backward through the encoder once:
padding never counts, each pass does. Users have a mean of about 100 events with a long tail. Rates
are per second of process CPU time, which a loaded machine distorts least, and per wall second.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from models.config import TrainConfig, parse
from models.data import Sequences, open_sequences
from models.train import build
from models.trainer import Trainer

SPECIAL = ["[PAD]", "[MASK]", "[UNK]"]
RECIPES = ("ptum_bert4rec", "ptum_gru4rec")
ITEMS, ACTIONS, CATEGORIES = 5000, 4, 20


def main() -> None:
    """Prints one JSON object a recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=8, help="timed, after three to warm up")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        sequences = open_sequences(write_log(Path(folder), options.users))
        for recipe in options.recipes:
            print(json.dumps(measure(sequences, recipe, options)), flush=True)


def measure(sequences: Sequences, recipe: str, options: argparse.Namespace) -> dict:
    """Times some steps of a recipe with its default sizes."""
    settings = {"sequences": str(sequences.path), "out": "unused", "version": "v", "recipe": recipe}
    config = parse(TrainConfig, settings | {"batch_size": options.batch_size}, "benchmark")
    trainer = Trainer(config, sequences, *build(config, sequences))
    trainer.trained.train()
    for _ in range(3):
        trainer.step()
    events, wall, cpu = trainer.history.events, time.perf_counter(), time.process_time()
    for _ in range(options.steps):
        trainer.step()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    events = trainer.history.events - events
    return {
        "recipe": recipe,
        "events": events,
        "events_per_cpu_second": round(events / cpu),
        "events_per_second": round(events / wall),
        "threads": options.threads,
        "batch_size": options.batch_size,
    }


def write_log(folder: Path, users: int) -> Path:
    """Writes random sequences of the training-sequences contract and returns the pointer."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(4.2, 0.85, users), 3, 2000).astype(np.int64)
    events = int(lengths.sum())
    item = np.minimum(rng.zipf(1.2, events), ITEMS) - 1
    arrays = {
        "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        "item": (3 + item).astype(np.int32),
        "action": rng.integers(3, 3 + ACTIONS, events).astype(np.int32),
        "category": (3 + item % CATEGORIES).astype(np.int32),
        "value": rng.random(events).astype(np.float32),
        "time": np.cumsum(rng.integers(1, 10_000, events)),
        "item_category": np.concatenate([[0] * 3, 3 + np.arange(ITEMS) % CATEGORIES]).astype(
            np.int32
        ),
    }
    data = folder / "log"
    data.mkdir()
    for name, array in arrays.items():
        np.save(data / f"{name}.npy", array)
    sizes = {"item": ITEMS, "action": ACTIONS, "category": CATEGORIES}
    vocabulary = {field: SPECIAL + [str(n) for n in range(size)] for field, size in sizes.items()}
    (data / "vocabulary.json").write_text(json.dumps(vocabulary))
    pq.write_table(pa.table({"user_id": [str(n) for n in range(users)]}), data / "users.parquet")
    pointer = {"folder": data.name, "fingerprint": "random", "vocabulary_hash": "random"}
    (folder / "log.json").write_text(json.dumps(pointer | {"train_cutoff": "2100-01-01T00:00:00Z"}))
    return folder / "log.json"


if __name__ == "__main__":
    main()
