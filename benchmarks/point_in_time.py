"""The point-in-time join of a training set: our offline store, Feast's own, and a plain ASOF join.

    python benchmarks/point_in_time.py --days 1000 --labels 100000
    python benchmarks/point_in_time.py --heavy 200000 --labels 1000

The rows are a file a day, each user's row of 20 features, of which 2% were known late and 2% were
revised the day after; `--heavy` is one user with as many rows in one file instead. Every method
runs in a process of its own, ended after `--limit` seconds or at `--memory` GB of data,
and prints seconds and the peak of its memory, Python and the training set included. `plain` is an
ASOF join of all columns in DuckDB that knows nothing of revisions, so its answers differ; the
others must agree, or the run fails, save that Feast's dask store loses labels.
"""

import argparse
import datetime as dt
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ORIGIN = np.datetime64("2023-01-01T00:00:00", "us")
DAY, HOUR, SECOND = (np.timedelta64(1, unit) for unit in "Dhs")
STORES = {
    "ours": {"type": "footpath_feast.asof.AsofOfflineStore", "threads": 2},
    "feast_duckdb": {"type": "duckdb"},
    "feast_dask": {"type": "dask"},
}
METHODS = [*STORES, "plain"]


def rows(users: np.ndarray, event: np.ndarray, features: int, random: Any) -> pa.Table:
    """Rows of users at moments: known an hour later, 2% later still, 2% of them revised."""
    revised = random.random(len(users)) < 0.02
    created = event + HOUR
    created[random.random(len(users)) < 0.02] += 2 * DAY
    users = np.concatenate([users, users[revised]])
    event, created = (
        np.concatenate([event, event[revised]]),
        np.concatenate([created, created[revised] + DAY]),
    )
    named = {f"f{n:02}": random.integers(0, 1000, len(users)) for n in range(features)}
    clocks = {
        name: pa.array(values, pa.timestamp("us", tz="UTC"))
        for name, values in (("event_timestamp", event), ("created", created))
    }
    return pa.table({"user_id": [f"user-{user:06}" for user in users]} | clocks | named)


def write(folder: Path, options: argparse.Namespace) -> None:
    """Writes the views' files and the labels."""
    random = np.random.default_rng(0)
    for view in range(options.views):
        (folder / f"view{view}").mkdir()
        if options.heavy:
            event = ORIGIN + np.arange(options.heavy) * 400 * SECOND
            table = rows(np.zeros(options.heavy, int), event, options.features, random)
            pq.write_table(table, folder / f"view{view}" / "0.parquet")
            continue
        for day in range(options.days):
            users = np.arange(options.users)
            event = np.full(options.users, ORIGIN + (day + 1) * DAY)
            table = rows(users, event, options.features, random)
            pq.write_table(table, folder / f"view{view}" / f"{day:05}.parquet")
    span = options.heavy * 400 if options.heavy else options.days * 86_400
    users = random.integers(0, 1 if options.heavy else options.users, options.labels)
    at = ORIGIN + random.integers(0, span, options.labels) * SECOND
    pq.write_table(
        pa.table(
            {
                "user_id": [f"user-{user:06}" for user in users],
                "event_timestamp": pa.array(at, pa.timestamp("us", tz="UTC")),
                "label": np.arange(options.labels),
            }
        ),
        folder / "labels.parquet",
    )


def prepared(folder: Path, method: str, views: int, features: int) -> Callable[[], pa.Table]:
    """What makes the training set by a method."""
    if method == "plain":
        import duckdb

        connection = duckdb.connect(config={"memory_limit": "4GB", "threads": 2})
        joins = "".join(
            f" ASOF LEFT JOIN '{folder}/view{view}/*.parquet' v{view}"
            f" ON l.user_id = v{view}.user_id AND l.event_timestamp >= v{view}.event_timestamp"
            for view in range(views)
        )
        read = ", ".join(
            f"v{view}.f{n:02} AS view{view}__f{n:02}"
            for view in range(views)
            for n in range(features)
        )
        query = f"SELECT l.*, {read} FROM '{folder}/labels.parquet' l{joins}"
        return lambda: connection.sql(query).to_arrow_table()
    import pandas as pd
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Int64, String

    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    schema = [Field(name="user_id", dtype=String)]
    schema += [Field(name=f"f{n:02}", dtype=Int64) for n in range(features)]
    # Feast's dask store takes no glob, DuckDB no folder that is not said to be of Parquet.
    pattern = "" if method == "feast_dask" else "/*.parquet"
    declared = [
        FeatureView(
            name=f"view{view}",
            source=FileSource(
                name=f"view{view}",
                path=f"{folder}/view{view}{pattern}",
                timestamp_field="event_timestamp",
                created_timestamp_column="created",
            ),
            schema=schema,
            entities=[user],
            ttl=dt.timedelta(0),
        )
        for view in range(views)
    ]
    config = RepoConfig(
        project="team",
        provider="local",
        registry=f"{folder}/{method}.db",
        offline_store=STORES[method],
        online_store={"type": "sqlite", "path": f"{folder}/online.db"},
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    store.apply([user, *declared])
    labels = pd.read_parquet(folder / "labels.parquet")
    references = [f"view{view}:f{n:02}" for view in range(views) for n in range(features)]
    return lambda: store.get_historical_features(
        labels, references, full_feature_names=True, filter_by_created_timestamp=True
    ).to_arrow()


def run(folder: Path, method: str, options: argparse.Namespace) -> None:
    """In a process of its own: prints seconds, peak memory and a digest of the answers."""
    limit = int(options.memory * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    join = prepared(folder, method, options.views, options.features)
    began = time.perf_counter()
    table = join()
    seconds = time.perf_counter() - began
    names = [name for name in table.column_names if name.startswith("view")]
    order = np.argsort(table["label"].to_numpy())
    weights = np.arange(1, len(order) + 1) % 1009  # each label counts by its own
    values = [
        np.nan_to_num(table[name].to_numpy().astype(float)[order] + 1) @ weights
        for name in sorted(names)
    ]
    print(
        json.dumps(
            {
                "seconds": seconds,
                "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                "rows": len(table),
                "digest": float(np.dot(values, np.arange(1, len(values) + 1))),
            }
        )
    )


def measure(folder: Path, method: str, options: argparse.Namespace) -> dict[str, Any] | None:
    """Runs a method and prints its line; None where it gave no answer."""
    command = [sys.executable, __file__, "--folder", str(folder), "--method", method]
    for name in ("views", "features", "memory"):
        command += [f"--{name}", str(getattr(options, name))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=options.limit)
    except subprocess.TimeoutExpired:
        print(f"{method:14}no answer in {options.limit} s: ended", flush=True)
        return None
    if done.returncode:
        errors = re.findall(r"^\S*(?:Error|Exception): .*", done.stderr, re.MULTILINE)
        print(f"{method:14}failed: {(errors or ['killed'])[-1][:150]}", flush=True)
        return None
    found = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{method:14}{found['seconds']:8.1f} s  {found['memory']:6.2f} GB  {found['rows']:,} rows",
        flush=True,
    )
    return found


def main() -> None:
    """Prints a line a method."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--users", type=int, default=5_000)
    parser.add_argument("--days", type=int, default=100)
    parser.add_argument("--labels", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=20)
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--heavy", type=int, default=0, help="rows of one user, in place of days")
    parser.add_argument("--limit", type=int, default=200, help="seconds for each method")
    parser.add_argument("--memory", type=float, default=16, help="GB for each method")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--method", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.method:
        run(options.folder, options.method, options)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, options)
        for _ in range(options.rounds):
            found = {method: measure(folder, method, options) for method in options.methods}
            answers = {
                method: answer["digest"]
                for method, answer in found.items()
                if answer and method != "plain" and answer["rows"] == options.labels
            }
            if len(set(answers.values())) > 1:
                sys.exit(f"the answers differ: {answers}")


if __name__ == "__main__":
    main()
