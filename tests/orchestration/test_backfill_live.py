"""A backfill as the UI launches it: through the webserver, run by the daemon."""

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


def test_days_of_three_assets_launched_in_the_ui_are_one_run_of_exactly_these_days(
    address: str, tmp_path: Path
):
    keys = [{"path": ["shop", name]} for name in NAMES]
    launched = asked(address, LAUNCH, backfill={"assetSelection": keys, "partitionNames": DAYS})
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    status = "REQUESTED"
    while status in ("REQUESTED", "FAILING"):
        time.sleep(1)
        status = asked(address, STATUS, id=launched["backfillId"])["status"]
    assert status == "COMPLETED_SUCCESS"
    with dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance:
        runs = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": launched["backfillId"]}))
        assert len(runs) == 1
        for name in NAMES:
            built = instance.get_materialized_partitions(dg.AssetKey(["shop", name]))
            assert sorted(built) == DAYS
