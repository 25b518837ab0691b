"""`footpath serve` as a user starts it: two processes, one of which dies."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from contracts.lake.layout import Lake
from features.store.serving.read_counts import recent_reads
from tests.conftest import REPOSITORY
from tests.orchestration.conftest import clean_environment
from tests.redis_server import free_port

FEATURES = {"dataset": "shop", "service": "user_representation__v1", "users": ["u1", "u2"]}


@pytest.mark.long
@pytest.mark.server
def test_two_processes_answer_lose_nothing_when_stopped_and_one_that_dies_comes_back(
    home: Path, tmp_path: Path
):
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "orchestration.cli.main", "serve"]
    command += ["--dataset", "shop", "--port", str(port), "--workers", "2"]
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=clean_environment(home), stdout=log, stderr=log
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            _wait(client, tmp_path / "log")
            before = _workers(process.pid)
            assert len(before) == 2
            os.kill(before[0], signal.SIGKILL)
            end = time.monotonic() + 60
            while len(after := _workers(process.pid)) < 2 or before[0] in after:
                assert time.monotonic() < end
                time.sleep(0.1)
            _wait(client, tmp_path / "log")
        with ThreadPoolExecutor(8) as pool:  # each on a connection of its own
            asked = [pool.submit(_ask, port) for _ in range(60)]
            assert [future.result() for future in asked] == [200] * 60
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        assert 'path="/v1/features",status="200"} 60.0' in metrics  # of both processes
    finally:
        process.terminate()
        assert process.wait(timeout=30) in (0, 143), (tmp_path / "log").read_text()
    assert recent_reads(Lake.of("shop"), FEATURES["service"]).requests == 60
    assert "Traceback" not in (tmp_path / "log").read_text()


def _ask(port: int) -> int:
    return httpx.post(f"http://127.0.0.1:{port}/v1/features", json=FEATURES, timeout=30).status_code


def _wait(client: httpx.Client, log: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


def _workers(pid: int) -> list[int]:
    """Processes that answer: not the one that counts resources of multiprocessing."""
    children = psutil.Process(pid).children()
    alive = [c for c in children if c.status() != psutil.STATUS_ZOMBIE]
    return sorted(c.pid for c in alive if "spawn_main" in " ".join(c.cmdline()))
