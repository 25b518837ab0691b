"""Reading a service online: ours against stock Feast and the raw Redis client, in one run.

    python benchmarks/online_read.py --rounds 200

One service of 106 features and an embedding of 64, in process, `to_dict()` included; the three take
turns of ten calls. Raw is a pipeline of HMGET with the same keys and fields, whose bytes nobody
decodes. Results of a loaded machine swing; read the ratios, not the milliseconds.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from feast import FeatureService, FeatureStore
from online_write import REDIS, SQLITE, VECTORS, ours, redis_server, write_repository, write_rows

from contracts.lake.layout import Lake
from features.store.feast_objects import entity, feature_view
from features.store.repository import open_store
from features.store.view_specs import Column, View

USERS = 5_000
TURN = 10  # calls of one reader in a row
WIDE = View(
    "features",
    "user_behavior_features",
    tuple(Column(f"count_{n:02}", f"count_{n:02}", "int64") for n in range(74))
    + tuple(Column(f"value_{n:02}", f"value_{n:02}", "float64") for n in range(32)),
)


def service_on(lake: Lake, kind: str, options: dict) -> tuple[FeatureStore, FeatureService]:
    """Opens the repository with an online store of a type, and the service in it."""
    write_repository(lake, {"type": kind, **options})
    views = [feature_view(lake, view) for view in (WIDE, VECTORS)]
    service = FeatureService(name="service", features=views)
    store = open_store(lake)
    store.apply([entity("user"), *views, service])
    return store, store.get_feature_service("service")


def reader(store: FeatureStore, service: FeatureService) -> Callable[[list[str]], Any]:
    """A read of some users by a feature store."""
    return lambda users: store.get_online_features(
        service, [{"user_id": user} for user in users]
    ).to_dict()


def raw_reader(port: int, project: str) -> Callable[[list[str]], Any]:
    """The same read by the plain client."""
    import redis

    client = redis.Redis(port=port)
    keys = list(client.scan_iter(f"*user_id*user-*{project}", count=10_000))
    by_user = {key[-len(project) - 12 : -len(project)].decode(): key for key in keys}
    fields = sorted(client.hkeys(keys[0]))

    def read(users: list[str]) -> list:
        with client.pipeline(transaction=False) as pipe:
            for user in users:
                pipe.hmget(by_user[user], fields)
            return pipe.execute()

    return read


def measure(name: str, readers: dict[str, Callable], users: int, rounds: int) -> None:
    """Prints the median and 99th percentile of every reader in milliseconds."""
    random = np.random.default_rng(0)
    times: dict[str, list[float]] = {reader: [] for reader in readers}
    for _ in range(max(1, rounds // TURN)):
        for kind, read in readers.items():
            for call in range(TURN + 1):
                asked = [f"user-{n:07}" for n in random.choice(USERS, users, replace=False)]
                start = time.perf_counter()
                read(asked)
                if call:  # the first resolves the service: one store's memory ousts another's
                    times[kind].append(1_000 * (time.perf_counter() - start))
    cells = [
        f"{statistics.median(values):.2f} ({np.quantile(values, 0.99):.2f})"
        for values in times.values()
    ]
    middle = {kind: statistics.median(values) for kind, values in times.items()}
    ratios = f"{middle['stock'] / middle['ours']:.1f}"
    against = f"{middle['ours'] / middle['raw']:.2f}" if "raw" in middle else "-"
    cells += ["-"] * (3 - len(cells))
    print(f"| {name} | {users} | {' | '.join(cells)} | {ratios} | {against} |")


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore")
    print("| store | users | stock, ms p50 (p99) | ours | raw | stock / ours | ours / raw |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as port:
        lake = Lake(Path(folder) / "lake")
        for view in (WIDE, VECTORS):
            write_rows(lake, view, USERS)
        kinds: list[tuple[str, str, dict]] = [("sqlite", SQLITE, {"path": "online.db"})]
        if port:
            kinds.append(("redis", REDIS, {"connection_string": f"127.0.0.1:{port}"}))
        for name, kind, options in kinds:
            own = reader(*service_on(lake, kind, options))
            for view in (WIDE, VECTORS):
                ours(lake, view)
            readers = {"stock": reader(*service_on(lake, name, options)), "ours": own}
            if name == "redis":
                readers["raw"] = raw_reader(port, "bench")
            for users in (1, 100, 1_000):
                measure(name, readers, users, max(5, rounds // (1 if users < 1_000 else 10)))


if __name__ == "__main__":
    main()
