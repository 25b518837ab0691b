"""Writing features and embeddings to the online store: ours against stock Feast, in one run.

    python benchmarks/online_write.py --users 20000 --rounds 3
    python benchmarks/online_write.py --users 1000000 --alone    # ours: CPU time and peak memory

Both write the same rows of the same Parquet object into an empty store, in turn. What is timed is
everything from the Parquet file to the store. Redis is measured where `redis-server` is installed.
Results of a loaded machine swing; read the ratio, not the seconds.
"""

import argparse
import contextlib
import datetime as dt
import io
import multiprocessing
import resource
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.publishing import write_parquet
from contracts.lake.schemas import FEATURE_CLOCKS
from features.store.changes import Changes, State
from features.store.feast_objects import entity, feature_view
from features.store.online import BATCH
from features.store.online_writer import OnlineWriter
from features.store.repository import open_store
from features.store.view_specs import Column, View, repository

SQLITE = "footpath_feast.sqlite.SqliteOnlineStore"  # whose other methods are Feast's
REDIS = "footpath_feast.redis.RedisOnlineStore"
INSTANT = dt.datetime(2026, 1, 1, 23, tzinfo=dt.UTC)
FEATURES = View(
    "features",
    "user_behavior_features",
    tuple(Column(f"count_{n:02}", f"count_{n:02}", "int64") for n in range(14))
    + tuple(Column(f"value_{n:02}", f"value_{n:02}", "float64") for n in range(6)),
)
VECTORS = View(
    "embeddings",
    "user_embeddings/m_v1",
    (Column("embedding_m_v1", "embedding", "float32[64]"),),
    {"model_version": "m_v1"},
)


def write_rows(lake: Lake, view: View, users: int) -> None:
    """Publishes one object with a row a user: Poisson counts, gamma values, normal vectors."""
    random = np.random.default_rng(0)
    columns: dict = {"user_id": [f"user-{n:07}" for n in random.permutation(users)]}
    columns |= {field.name: pa.array([INSTANT] * users, field.type) for field in FEATURE_CLOCKS}
    for number, column in enumerate(view.columns):
        if column.kind == "int64":
            columns[column.source] = random.poisson(3 * number, users)
        elif column.kind == "float64":
            columns[column.source] = random.gamma(1, 10, users)
        else:
            flat = random.standard_normal(users * 64).astype(np.float32)
            columns[column.source] = pa.FixedSizeListArray.from_arrays(pa.array(flat), 64)
    write_parquet(pa.table(columns), lake.table(view.table) / "2026-01-01.parquet")


def write_repository(lake: Lake, online_store: dict) -> None:
    """Writes a repository whose materialization is batched, as stock Feast is best used."""
    config = {
        "project": "bench",
        "provider": "local",
        "registry": "registry.db",
        "online_store": online_store,
        "offline_store": {"type": "footpath_feast.asof.AsofOfflineStore"},
        "entity_key_serialization_version": 3,
        "materialization": {"pull_latest_features": True, "online_write_batch_size": BATCH},
    }
    repository(lake).mkdir(parents=True, exist_ok=True)
    (repository(lake) / "feature_store.yaml").write_text(yaml.safe_dump(config))


def stock(lake: Lake, view: View) -> None:
    """Writes with Feast's own materialize."""
    store = open_store(lake)
    with contextlib.redirect_stdout(io.StringIO()):
        store.materialize(INSTANT - dt.timedelta(days=1), INSTANT, [view.name])


def ours(lake: Lake, view: View) -> None:
    """Writes with the vectorised writer."""
    writer = OnlineWriter(lake, [view])
    with connect() as connection:
        for batch in Changes(connection, lake, view, State.empty("", view)).batches(BATCH):
            writer.write([(view, batch)])


def empty(lake: Lake, port: int | None) -> None:
    """Empties the online store and makes its tables again."""
    if port:
        import redis

        redis.Redis(port=port).flushall()
    (repository(lake) / "online.db").unlink(missing_ok=True)
    views = [feature_view(lake, view) for view in (FEATURES, VECTORS)]
    open_store(lake).apply([entity("user"), *views])


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[int | None]:
    """Runs a Redis server on a free port of the loopback, or gives None without one."""
    binary = shutil.which("redis-server")
    if not binary:
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    try:
        time.sleep(1)
        yield port
    finally:
        process.terminate()
        process.wait()


def measure(lake: Lake, view: View, users: int, rounds: int, port: int | None) -> None:
    """Prints the rates of both writers, in turn, and the median of the rounds' ratios."""
    rates: dict[str, list[float]] = {"stock": [], "ours": []}
    for _ in range(rounds):
        for name, write in (("stock", stock), ("ours", ours)):
            empty(lake, port)
            start = time.perf_counter()
            write(lake, view)
            rates[name].append(users / (time.perf_counter() - start))
    ratios = [b / a for a, b in zip(rates["stock"], rates["ours"], strict=True)]
    print(
        f"| {'redis' if port else 'sqlite'} | {view.name} | "
        f"{statistics.median(rates['stock']):,.0f} | {statistics.median(rates['ours']):,.0f} | "
        f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) |"
    )


def measure_alone(lake: Lake, users: int, port: int | None) -> None:
    """Prints what ours costs, a process for each view."""
    for view in (FEATURES, VECTORS):
        empty(lake, port)
        process = multiprocessing.get_context("spawn").Process(
            target=_write_alone, args=(lake, view, users, "redis" if port else "sqlite")
        )
        process.start()
        process.join()


def _write_alone(lake: Lake, view: View, users: int, store: str) -> None:
    warnings.simplefilter("ignore")
    begun = time.process_time()
    ours(lake, view)
    seconds = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| {store} | {view.name} | {users / seconds:,.0f} | {peak:,.0f} |", flush=True)


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="ours, without stock Feast")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.alone:
        print("| store | view | users a CPU-second | peak memory, MB |")
        print("|---|---|---|---|")
    else:
        print("| store | view | stock, users/s | ours, users/s | ratio, median (range) |")
        print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as port:
        lake = Lake(Path(name) / "lake")
        for view in (FEATURES, VECTORS):
            write_rows(lake, view, arguments.users)
        for server in (None, port) if port else (None,):
            if server:
                write_repository(lake, {"type": REDIS, "connection_string": f"127.0.0.1:{server}"})
            else:
                write_repository(lake, {"type": SQLITE, "path": "online.db"})
            if arguments.alone:
                measure_alone(lake, arguments.users, server)
                continue
            for view in (FEATURES, VECTORS):
                measure(lake, view, arguments.users, arguments.rounds, server)


if __name__ == "__main__":
    main()
