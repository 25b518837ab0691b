"""Reading a service over HTTP: `footpath serve` beside Feast's own server, in one run.

    python benchmarks/serve.py --seconds 5
    python benchmarks/serve.py --store redis

The service has 106 features and an embedding of 64; both servers have two processes. Clients are
threads of one process, each on a connection of its own, and ask as fast as they are answered. What
is not 200 is an error. Client and servers share the cores: read the ratios, not the milliseconds.
"""

import argparse
import contextlib
import dataclasses
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml
from online_read import USERS, WIDE, service_on
from online_write import REDIS, SQLITE, VECTORS, ours, redis_server, write_rows

from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json
from features.store.services import Service, Services
from features.store.view_specs import record_views, repository

ROOT = Path(__file__).parents[1]
STARTS = 180  # seconds, at most
STOCK_PATHS = {"path": "../online.db"}


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[int]:
    """Runs a server until it answers, and ends it with all its processes."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", *command], cwd=ROOT, stdout=log, stderr=log
        )
        end = time.monotonic() + STARTS
        try:
            while not is_up(port):
                if process.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    raise RuntimeError(log.read().decode()[-3_000:])
                time.sleep(0.3)
            yield port
        finally:
            process.terminate()
            process.wait(60)


def is_up(port: int) -> bool:
    """Whether a server answers on a port."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def load(port: int, path: str, bodies: list[bytes], clients: int, seconds: float) -> str:
    """Cells of the table: p50 (p99) in milliseconds, answers a second, errors."""
    times: list[float] = []
    errors = 0
    end = time.monotonic() + seconds

    def ask(number: int) -> None:
        nonlocal errors
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        turn = number
        while time.monotonic() < end:
            begun = time.perf_counter()
            try:
                body, turn = bodies[turn % len(bodies)], turn + 1
                connection.request("POST", path, body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                response.read()
                errors += response.status != 200
            except (OSError, http.client.HTTPException):
                errors += 1
                connection.close()
            times.append(time.perf_counter() - begun)
        connection.close()

    begun = time.monotonic()
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - begun
    middle, late = statistics.median(times) * 1_000, float(np.quantile(times, 0.99)) * 1_000
    return f"{middle:.1f} ({late:.1f}) | {len(times) / took:.0f} | {errors}"


def bodies_of(users: int, stock: bool) -> list[bytes]:
    """Twenty questions for random users."""
    random, found = np.random.default_rng(0), []
    for _ in range(20):
        asked = [f"user-{n:07}" for n in random.choice(USERS, users, replace=False)]
        ours_asks = {"dataset": "shop", "service": "service", "users": asked}
        stock_asks = {"feature_service": "service", "entities": {"user_id": asked}}
        found.append(json.dumps(stock_asks if stock else ours_asks).encode())
    return found


def publish(lake: Lake, kind: str, name: str, options: dict) -> None:
    """Writes the repository, ours and for stock Feast, and what `footpath serve` looks up."""
    service_on(lake, kind, options)
    for view in (WIDE, VECTORS):
        ours(lake, view)
    config = yaml.safe_load((repository(lake) / "feature_store.yaml").read_text())
    own = STOCK_PATHS if name == "sqlite" else {}
    config["offline_store"] = {"type": "duckdb"}
    config |= {"registry": "../registry.db", "online_store": {"type": name} | options | own}
    (repository(lake) / "stock").mkdir(exist_ok=True)
    (repository(lake) / "stock" / "feature_store.yaml").write_text(yaml.safe_dump(config))
    features = {view.name: [column.name for column in view.columns] for view in (WIDE, VECTORS)}
    record_views(lake, [WIDE, VECTORS])
    services = Services({"service": Service(features, {})}, {"newest": "service"})
    publish_json(lake, dataclasses.asdict(services), repository(lake) / "services.json")


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--store", choices=["sqlite", "redis"], help="one alone")
    seconds, only = parser.parse_args().seconds, parser.parse_args().store
    warnings.simplefilter("ignore")
    print("| store | users | clients | server | ms p50 (p99) | answers/s | errors |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as redis_port:
        os.environ["FOOTPATH_HOME"] = folder
        lake = Lake.of("shop")
        for view in (WIDE, VECTORS):
            write_rows(lake, view, USERS)
        kinds: list[tuple[str, str, dict]] = [("sqlite", SQLITE, {"path": "online.db"})]
        if redis_port:
            address = {"connection_string": f"127.0.0.1:{redis_port}"}
            kinds.append(("redis", REDIS, address))
        for name, kind, options in kinds:
            if only not in (None, name):
                continue
            publish(lake, kind, name, options)
            port = str(free_port())
            stock = ["-m", "feast.cli.cli", "-c", str(repository(lake) / "stock"), "serve"]
            stock += ["--port", port, "--workers", "2", "--no-access-log"]
            own = ["-m", "orchestration.cli.main", "serve", "--dataset", "shop"]
            own += ["--port", port, "--workers", "2"]
            for server, command, path in (
                ("footpath", own, "/v1/features"),
                ("feast", stock, "/get-online-features"),
            ):
                with running(command, int(port)):
                    for users in (1, 100, 1_000):
                        for clients in (10, 50):
                            bodies = bodies_of(users, server == "feast")
                            load(int(port), path, bodies, 4, min(1, seconds))
                            cells = load(int(port), path, bodies, clients, seconds)
                            print(
                                f"| {name} | {users:,} | {clients} | {server} | {cells} |",
                                flush=True,
                            )


if __name__ == "__main__":
    main()
