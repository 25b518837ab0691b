"""Similar users: recall, time, memory and build of the index, with and without filters.

    python benchmarks/similar_users.py --users 1000000 --dim 128 --kind clustered

Vectors are `random` (all dimensions alike: the worst case) or `clustered` (2,000 groups in 24
dimensions and noise in all). They are published as a day of embeddings, indexed as the asset does,
and searched through `similar_users`, in a process of its own that maps the files. Filters leave 50,
10, 1 and .1% of the users, by attributes. Recall is against a whole scan in float64 among the same
users. One thread. Columns: users left, recall@10, p50 and p99 in ms of CPU time, and of the clock.
"""

import argparse
import datetime as dt
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from contracts.config.dataset import load_dataset
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json, publish_table
from contracts.lake.schemas import USERS, embeddings_schema
from contracts.lake.versions import CONFIG, allocate, trial_folder
from features.store.similar import build_index, open_index, rows_where, similar_users

DAY = dt.datetime(2026, 1, 1, 23, tzinfo=dt.UTC)
SHARES = (0.5, 0.1, 0.01, 0.001)
QUERIES, K = 100, 10


def vectors_of(kind: str, users: int, dim: int) -> np.ndarray:
    """float32[users, dim]."""
    random = np.random.default_rng(0)
    noise = random.standard_normal((users, dim), dtype=np.float32)
    if kind == "random":
        return noise
    groups = random.standard_normal((2000, 24), dtype=np.float32)
    inner = groups[random.integers(0, 2000, users)]
    inner += 0.5 * random.standard_normal((users, 24), dtype=np.float32)
    noise *= 0.1
    noise += inner @ random.standard_normal((24, dim), dtype=np.float32) / np.float32(24**0.5)
    return noise


def build(lake: Lake, kind: str, users: int, dim: int) -> str:
    """Publishes embeddings and attributes, and indexes them; prints what that took."""
    version = allocate(lake, "bench", "trial-bench", "2026-01-01").version
    publish_json(lake, {"dim": dim}, trial_folder(lake, "trial-bench") / CONFIG)
    ids = [f"user-{number:08}" for number in range(users)]
    clock = pa.array([DAY] * users, pa.timestamp("us", tz="UTC"))
    flat = pa.array(vectors_of(kind, users, dim).ravel())
    vectors = pa.FixedSizeListArray.from_arrays(flat, dim)
    columns = [pa.array(ids), clock, clock, clock, vectors, pa.array([version] * users)]
    table = pa.Table.from_arrays(columns, schema=embeddings_schema(dim))
    publish_table(lake, table, lake.day(f"user_embeddings/{version}", DAY.date()))
    random = np.random.default_rng(1)
    drawn = {f"of_{share}": random.random(users) < share for share in SHARES}
    pairs = [
        list(zip(drawn, map(str, row), strict=True)) for row in zip(*drawn.values(), strict=True)
    ]
    attributes = pa.table({"user_id": ids, "attributes": pairs}, schema=USERS)
    publish_table(lake, attributes, lake.single("users"))
    return version


def index(lake: Lake, version: str) -> None:
    """Builds the index in this process; prints seconds and peak memory."""
    begun = time.perf_counter()
    report = build_index(load_dataset("shop"), lake, version)
    print(
        f"build {time.perf_counter() - begun:.1f} s, {peak():.1f} GB; {report.columns} columns, "
        f"recall {report.recall}, {report.milliseconds:.1f} ms a query",
        flush=True,
    )


def search(lake: Lake, version: str) -> None:
    """Searches in this process, which has read nothing yet; prints a line for each filter."""
    begun = time.perf_counter()
    opened = open_index(lake, version)
    similar_users(lake, "user-00000000", version=version)
    print(f"opened and checked in {time.perf_counter() - begun:.2f} s", flush=True)
    asked = np.random.default_rng(2).integers(0, len(opened.users), QUERIES).tolist()
    for share in (1, *SHARES):
        filters = {f"of_{share}": "True"} if share < 1 else None
        among = rows_where(lake, opened, filters) if filters else np.ones(len(opened.users), bool)
        rows = np.flatnonzero(among)
        walls, cpus, recalls = [], [], []
        for row in asked:
            user, wall, cpu = opened.users[row].as_py(), time.perf_counter(), time.thread_time()
            found = similar_users(lake, user, k=K, version=version, filters=filters)
            cpus.append(1000 * (time.thread_time() - cpu))
            walls.append(1000 * (time.perf_counter() - wall))
            if len(recalls) < 20:  # a whole scan is slow
                recalls.append(recall(opened.vectors, row, rows, found))
        print(
            f"| {100 * share:g}% | {np.mean(recalls):.3f} | {np.median(cpus):.1f} | "
            f"{np.percentile(cpus, 99):.1f} | {np.median(walls):.1f} | "
            f"{np.percentile(walls, 99):.1f} |",
            flush=True,
        )
    print(f"peak memory {peak():.2f} GB, mapped files included")


def recall(vectors: np.ndarray, row: int, rows: np.ndarray, found: list) -> float:
    """Share of the nearest by a whole scan that were found."""
    truth = np.concatenate(
        [
            vectors[part].astype(np.float64) @ vectors[row].astype(np.float64)
            for part in np.array_split(rows[rows != row], 16)
        ]
    )
    others = rows[rows != row]
    k = min(K, len(others))
    best = others[np.argpartition(truth, -k)[-k:]]
    names = {f"user-{number:08}" for number in best.tolist()}
    return len(names & {user for user, _ in found}) / k


def peak() -> float:
    """Peak memory of this process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Builds, indexes and searches, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--kind", choices=["random", "clustered"], default="clustered")
    parser.add_argument("--step", choices=["index", "search"], help=argparse.SUPPRESS)
    parser.add_argument("--lake", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        {"index": index, "search": search}[options.step](Lake(options.lake), "bench_v1")
        return
    print(f"{options.kind}, {options.users:,} x {options.dim}", flush=True)
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"FOOTPATH_HOME": home, "OPENBLAS_NUM_THREADS": "1"}  # of the processes
        folder = Path(home) / "lake" / "shop"
        build(Lake(folder), options.kind, options.users, options.dim)
        for step in ("index", "search"):
            command = [sys.executable, __file__, "--step", step, "--lake", str(folder)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
