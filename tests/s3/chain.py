"""The chain of a small shop without Dagster and training, and all that it has left in a lake."""

import datetime as dt
import json
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.base.clock import days_between
from contracts.lake.layout import Lake
from contracts.lake.paths import is_remote
from features.ingestion.landing import land
from features.ingestion.lookup_tables import build_items, build_users
from features.learning.labels import build_labels
from features.learning.sequences import build_sequences
from features.staleness import find_stale
from features.store import check_online, materialize, promote
from features.store.similar import build_index
from tests.builders.daily import TABLES, build, build_days
from tests.builders.datasets import FEW_FEATURES, dataset_like
from tests.builders.store import publish_embeddings, publish_model

FIRST, LAST = dt.date(2026, 1, 1), dt.date(2026, 1, 4)
DAYS = days_between(FIRST, LAST)
VERSION = "ptum_bert4rec_v1"

# A small shop's days are as strange as small samples are.
SHOP = dataset_like(
    "shop",
    partitions={"start": FIRST, "end": LAST},
    quality={"max_broken_share": 1.0, "allow_empty_days": True, "min_value": 0.0},
    features=FEW_FEATURES,
    tasks=[{"name": "age", "column": "age_band", "metric": "accuracy"}],
)


def build_tables(lake: Lake) -> dict[str, list[dt.date]]:
    """Builds all days but one; lands the last with its late events, and builds what is due."""
    build_items(SHOP, lake)
    build_users(SHOP, lake)
    land(SHOP, lake, DAYS[:-1])
    build(SHOP, lake, DAYS[:-1])
    land(SHOP, lake, None)
    rebuilt = {}
    for table in TABLES:
        rebuilt[table] = list(find_stale(SHOP, lake, DAYS).reasons[table])
        build_days(SHOP, lake, table, rebuilt[table])
    build_labels(SHOP, lake, LAST)
    build_sequences(SHOP, lake, LAST)
    return rebuilt


def build_store(lake: Lake) -> Any:
    """Embeds users by a model that was never trained, and brings the feature store up to date."""
    users = pq.read_table(pa.BufferReader(lake.single("users").read_bytes()))["user_id"]
    users = users.to_pylist()[:20]
    publish_model(lake, VERSION, train_cutoff="2026-01-03T00:00:00+00:00")
    vectors = np.random.default_rng(0).normal(size=(len(users), 4))
    publish_embeddings(lake, SHOP, VERSION, LAST, users, vectors)
    promote(SHOP, lake, VERSION)
    materialize(SHOP, lake)
    build_index(SHOP, lake, VERSION)
    return check_online(SHOP, lake)


# What is of a server's or a run's own: local databases, locks, and Feast's registry with its times.
OWN = (".lock", "online.db", "registry.db", "online.db-wal", "online.db-shm")


def names(lake: Lake) -> set[str]:
    """Returns every object of a lake, staging included, relative to its root."""
    if is_remote(lake.root):
        root: Any = lake.root
        found = root.fs.find(root.path, withdirs=False)
        return {key[len(root.path) + 1 :] for key in found}
    found = (path for path in lake.root.rglob("*") if path.is_file())
    return {path.relative_to(lake.root).as_posix() for path in found}


def contents(lake: Lake, only: Iterable[str] = ("",)) -> dict[str, Any]:
    """Returns what every object says that must not depend on where and when it was written.

    Args:
      lake: which.
      only: the beginnings of the names that are wanted.
    """
    wanted = tuple(only)
    return {
        name: _content(name, (lake.root / name).read_bytes(), str(lake.root))
        for name in sorted(names(lake))
        if name.startswith(wanted) and name.rpartition("/")[2] not in OWN
    }


def _content(name: str, data: bytes, root: str) -> Any:
    if name.endswith(".parquet"):
        return _rows(name, data)
    # Stamps of files and objects (a time, an ETag) are the storage's own.
    if name.startswith("landing/files/"):
        return {key: value for key, value in json.loads(data).items() if key != "stamp"}
    if name.startswith("feature_store/similar/") and name.endswith(".json"):
        pointer = json.loads(data)
        return pointer | {"objects": sorted(pointer["objects"])}
    if name == "feature_store/promotions.json":
        return re.sub(r'"at": "[^"]*"', "", data.decode())
    if name.endswith((".json", ".html", ".yaml")):
        return data.decode().replace(root, "")
    return data


def _rows(name: str, data: bytes) -> tuple:
    """Returns a table's schema and rows, without when they were written.

    `created` of a corrected row is the moment of its rebuild: that it is late is what counts.
    """
    rows = pq.read_table(pa.BufferReader(data))
    metadata = rows.schema.metadata
    if "created" in rows.column_names and "/online/" not in name:
        late = pc.subtract(rows["created"], rows["event_timestamp"])
        punctual = dt.timedelta(minutes=SHOP.features.delay_minutes)
        rows = rows.append_column("late", pc.not_equal(late, pa.scalar(punctual, late.type)))
    if "/online/" in name or name in ("items.parquet", "users.parquet"):  # see "stamps" above
        metadata = None
    rows = rows.drop_columns([n for n in ("created", "written_at") if n in rows.column_names])
    return rows.schema.names, metadata, rows.to_pylist()
