"""A whole chain on a small shop, run once for all tests that look at its outcome."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


def footpath(home: Path, *arguments: str, timeout: int = 880) -> subprocess.CompletedProcess:
    """Runs the command line as a user would, in a home folder of its own."""
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("DAGSTER_", "FOOTPATH"))
    }
    environment |= {"FOOTPATH_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "1"}
    return subprocess.run(
        [sys.executable, "-m", "orchestration.cli.main", *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="session")
def small_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder after `footpath run` on a shop of 200 users and 28 days."""
    home = tmp_path_factory.mktemp("home")
    result = footpath(home, "run", "--users", "200", "--days", "28")
    assert result.returncode == 0, result.stdout + result.stderr
    (home / "run.out").write_text(result.stdout)
    return home
