"""The UI in a real browser, on the instance that `footpath run` has filled."""

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.production.addresses import WEBSERVER_MODULE
from tests.conftest import REPOSITORY
from tests.redis_server import free_port

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]  # the shop takes its time


@pytest.fixture(scope="module")
def chromium() -> str:
    """The path of a headless browser."""
    for name in ("chromium", "google-chrome", "chromium-browser"):
        if path := shutil.which(name):
            return path
    pytest.skip("no chromium on the PATH: install it to test the UI in a browser")


@pytest.fixture(scope="module")
def ui(small_shop: Path) -> Iterator[str]:
    """The address of a webserver on loopback."""
    port = free_port()
    environment = os.environ | {
        "FOOTPATH_HOME": str(small_shop),
        "FOOTPATH_DATASETS": str(small_shop / "datasets"),
        "DAGSTER_HOME": str(small_shop / "dagster"),
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }
    command = ["-m", WEBSERVER_MODULE, "-w", "workspace.yaml", "-h", "127.0.0.1"]
    server = subprocess.Popen(
        [sys.executable, *command, "-p", str(port)],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(address)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=20)


def _wait_for(address: str) -> None:
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{address}/server_info", timeout=2).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise TimeoutError(address)


def dom(chromium: str, address: str, profile: Path) -> str:
    """Returns the page as the browser has built it, scripts and all."""
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    page = subprocess.run(
        [
            *[chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"],
            *[*quiet, "--no-first-run", f"--user-data-dir={profile}", "--window-size=1600,1200"],
            *["--virtual-time-budget=30000", "--dump-dom", address],
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return page.stdout


def test_the_browser_shows_every_asset_of_the_shop_materialized(chromium, ui, tmp_path):
    page = dom(chromium, f"{ui}/asset-groups?asset-selection=key:shop/*", tmp_path)
    for group in ("shop_ingestion", "shop_behavior", "shop_learning", "shop_serving"):
        assert group in page


def test_the_browser_shows_the_leaderboard_with_its_table_and_pictures(
    chromium, ui, small_shop, tmp_path
):
    page = dom(chromium, f"{ui}/assets/shop/leaderboard", tmp_path)
    assert "leaderboard.html" in page
    pictures = len([*(small_shop / "lake/shop/leaderboard").glob("*.png")])
    assert pictures >= 2
    assert page.count("Show Markdown") == 1 + pictures  # the table beside them


def test_the_page_of_the_leaderboard_stands_alone(chromium, small_shop, tmp_path):
    path = small_shop / "lake/shop/leaderboard/leaderboard.html"
    page = dom(chromium, path.as_uri(), tmp_path)
    assert "tfidf" in page
    assert "data:image/png;base64" in page
