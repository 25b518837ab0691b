"""A whole chain on a small shop, run once for all tests that look at its outcome."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


def clean_environment(home: Path) -> dict[str, str]:
    """The environment of a process of a user who has set nothing but a home folder."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("DAGSTER_", "FOOTPATH"))}
    return clean | {"FOOTPATH_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "1"}


def footpath(home: Path, *arguments: str, timeout: int = 880) -> subprocess.CompletedProcess:
    """Runs the command line as a user would, in a home folder of its own."""
    return subprocess.run(
        [sys.executable, "-m", "orchestration.cli.main", *arguments],
        cwd=REPOSITORY,
        env=clean_environment(home),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="session")
def small_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder after `footpath run` on a shop of 200 users and 28 days."""
    home = tmp_path_factory.mktemp("home")
    result = footpath(home, "run", "--users", "200", "--days", "28")
    assert result.returncode == 0, result.stdout + result.stderr
    (home / "run.out").write_text(result.stdout)
    return home
