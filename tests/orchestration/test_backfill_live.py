"""A backfill as the UI launches it: through the webserver, run by the daemon."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration.tags import PROCESS
from tests.conftest import REPOSITORY
from tests.orchestration.conftest import clean_environment, footpath
from tests.redis_server import free_port

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

NAMES = ["events", "sessions", "user_behavior_features"]
DAYS = [f"2026-01-{day:02}" for day in range(5, 15)]
LAUNCH = """
mutation ($backfill: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $backfill) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
STATUS = """
query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } }
}
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Webserver and daemon on a home folder whose small shop has landed."""
    landed = footpath(tmp_path, "run", "--users", "50", "--days", "14", "--until", "landing")
    assert landed.returncode == 0, landed.stderr
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "orchestration.cli.main", "ui", "--port", str(port)],
        cwd=REPOSITORY,
        env=clean_environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield f"http://127.0.0.1:{port}/graphql"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def asked(address: str, query: str, **variables: Any) -> Any:
    """Sends a query, again until the webserver is there; returns its only field."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    for _ in range(240):
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                (found,) = json.load(reply)["data"].values()
                return found
        except (urllib.error.URLError, ConnectionError):
            time.sleep(1)
    raise TimeoutError(address)


def launch(address: str) -> str:
    """Backfills ten days of three assets; returns its id."""
    keys = [{"path": ["shop", name]} for name in NAMES]
    launched = asked(address, LAUNCH, backfill={"assetSelection": keys, "partitionNames": DAYS})
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    return launched["backfillId"]


def ended(address: str, backfill: str) -> str:
    """Waits for a backfill and returns its status."""
    status = "REQUESTED"
    while status in ("REQUESTED", "FAILING"):
        time.sleep(1)
        status = asked(address, STATUS, id=backfill)["status"]
    return status


def runs_of(home: Path, backfill: str) -> list[dg.DagsterRun]:
    """The runs of a backfill, newest first."""
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        return list(instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill})))


def built_days(home: Path) -> dict[str, list[str]]:
    """The days that each asset has."""
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        keys = {name: dg.AssetKey(["shop", name]) for name in NAMES}
        return {n: sorted(instance.get_materialized_partitions(k)) for n, k in keys.items()}


def test_days_of_three_assets_launched_in_the_ui_are_one_run_of_exactly_these_days(
    address: str, tmp_path: Path
):
    backfill = launch(address)
    assert ended(address, backfill) == "COMPLETED_SUCCESS"
    assert len(runs_of(tmp_path, backfill)) == 1
    assert built_days(tmp_path) == dict.fromkeys(NAMES, DAYS)


def test_a_run_of_a_backfill_that_is_killed_is_failed_and_run_again(address: str, tmp_path: Path):
    backfill, runs = launch(address), []
    while not (runs and PROCESS in runs[0].tags):
        time.sleep(0.1)
        runs = runs_of(tmp_path, backfill)
    os.kill(int(runs[0].tags[PROCESS].split("/")[0]), signal.SIGKILL)
    assert ended(address, backfill) == "COMPLETED_SUCCESS"
    statuses = [run.status.value for run in runs_of(tmp_path, backfill)]
    assert statuses == ["SUCCESS", "FAILURE"]
    assert built_days(tmp_path) == dict.fromkeys(NAMES, DAYS)


def test_a_bad_day_of_a_backfill_launched_in_the_ui_costs_only_itself(address: str, tmp_path: Path):
    source = tmp_path / "source" / "shop"
    noon = f"{DAYS[3]}T12:00:00Z"
    rows = [{"id": f"bad-{n}", "user": "u1", "ts": noon, "type": "explode"} for n in range(1000)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (source / "events" / DAYS[3] / "12.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    landed = footpath(tmp_path, "run", "--data", str(source), "--until", "landing")
    assert landed.returncode == 0, landed.stderr
    backfill = launch(address)
    assert ended(address, backfill) == "COMPLETED_FAILED"
    (run,) = runs_of(tmp_path, backfill)
    assert run.status == dg.DagsterRunStatus.FAILURE
    good = [day for day in DAYS if day != DAYS[3]]
    assert built_days(tmp_path) == dict.fromkeys(NAMES, good)
