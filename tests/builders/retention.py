"""A lake with something of every kind that retention judges, as old as is wanted."""

import datetime as dt
import json
import os
from pathlib import Path

import numpy as np

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file, publish_folder, publish_json
from contracts.lake.versions import WEIGHTS, trial_folder, version_named
from features.store.services import REPRESENTATION_SERVICE
from features.store.similar import build_index
from features.store.view_specs import behavior_view, embedding_view, record_views
from tests.builders.datasets import shop
from tests.builders.store import (
    behavior_rows,
    point_alias,
    publish_behavior,
    publish_embeddings,
    publish_model,
)

DAY = dt.date(2026, 1, 10)
RECIPE = "ptum_bert4rec"
SERVED, GONE = f"{RECIPE}_v1", f"{RECIPE}_v2"
NEWEST = [f"{RECIPE}_v{number}" for number in (3, 4, 5)]
USERS = [f"u{k}" for k in range(5)]


def old_lake(lake: Lake, days: float = 100) -> Dataset:
    """Five versions, the first of them served, and everything that they have left, so old."""
    dataset = shop()
    publish_behavior(lake, DAY, behavior_rows(dataset, DAY, USERS, 1))
    for number, version in enumerate((SERVED, GONE, *NEWEST)):
        publish_version(lake, dataset, version, number)
        build_index(dataset, lake, version)
    views = [behavior_view(dataset, lake), embedding_view(lake, SERVED)]
    record_views(lake, views)
    point_alias(lake, REPRESENTATION_SERVICE, views)
    for as_of in ("2026-01-01", "2026-01-05", "2026-01-08", "2026-01-09"):
        publish_sequences(lake, as_of, as_of)
    publish_sequences(lake, "2026-01-10__0123abcd", "2026-01-10")
    put(lake, "runs/embed-x.json", "{}")
    put(lake, "running/measure-left/metrics.parquet", "x")
    put(lake, "_staging/left/half.parquet", "x")
    put(lake, "labels_of_seeds/2026-01-05-split1.parquet", "x")
    put(lake, "data_docs/events/old.html", "x")
    put(lake, "data_docs/events/new.html", "x")
    put(lake, "data_docs/events.json", json.dumps({"2026-01-10": {"page": "events/new.html"}}))
    age(lake, days)
    return dataset


def publish_version(lake: Lake, dataset: Dataset, version: str, number: int) -> None:
    """A model version with weights and a day of embeddings."""
    publish_model(lake, version)
    folder = trial_folder(lake, version_named(lake, version).trial)
    for name in (WEIGHTS, "vocabulary.json", "metrics.json", "curves.parquet"):
        with lake.staging() as staging:
            (staging / name).write_bytes(b"x" * 100)
            publish_file(staging / name, folder / name)
    vectors = np.eye(5, 4, dtype=np.float32) + number
    publish_embeddings(lake, dataset, version, DAY, USERS, vectors)


def publish_sequences(lake: Lake, name: str, as_of: str) -> Path:
    """A pointer and its folder of arrays."""
    folder = lake.root / "sequences" / f"{as_of}-{name[-4:]}"
    with lake.staging() as staging:
        np.save(staging / "item.npy", np.arange(1000))
        np.save(staging / "offsets.npy", np.arange(10))
        publish_folder(staging, folder)
    publish_json(lake, {"folder": folder.name}, lake.root / "sequences" / f"{name}.json")
    return folder


def put(lake: Lake, path: str, text: str) -> Path:
    """Writes a file of the lake's local folder."""
    target = lake.work / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return target


def age(lake: Lake, days: float) -> None:
    """Makes everything in the lake's local folder so many days older than now."""
    then = dt.datetime.now().timestamp() - days * 86400
    for path in sorted(lake.work.rglob("*"), reverse=True):
        os.utime(path, (then, then))


def contents(lake: Lake) -> dict[str, bytes]:
    """Every file of the lake's local folder; locks are none."""
    return {
        path.relative_to(lake.work).as_posix(): path.read_bytes()
        for path in lake.work.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.name != ".lock"
    }


def check_pointers(lake: Lake) -> None:
    """Fails if a pointer of the lake names what is not there, or a checkpoint is not whole."""
    for place in ("sequences", "feature_store/similar"):
        for pointer in (lake.work / place).glob("*.json"):
            folder = pointer.parent / json.loads(pointer.read_text())["folder"]
            names = {path.name for path in folder.iterdir()}
            assert names in ({"item.npy", "offsets.npy"}, {"vectors.npy", "users.arrow"})
    for config in (lake.work / "trials").glob("*/config.json"):
        assert (config.parent / WEIGHTS).exists()
        assert (config.parent / "vocabulary.json").exists()
