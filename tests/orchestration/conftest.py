"""A whole chain on a small shop, run once for all tests that look at its outcome."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from contracts.base.errors import FootpathError
from contracts.config.dataset import DATASETS
from orchestration.cli.main import app
from tests.conftest import REPOSITORY


def clean_environment(home: Path) -> dict[str, str]:
    """The environment of a process of a user who has set nothing but a home folder."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("DAGSTER_", "FOOTPATH"))}
    own = home / "datasets"
    places = {"FOOTPATH_HOME": str(home)} | (
        {"FOOTPATH_DATASETS": str(own)} if own.exists() else {}
    )
    return clean | places | {"DAGSTER_DISABLE_TELEMETRY": "1"}


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


@pytest.fixture
def command(lake_home: Path) -> Callable[..., Result]:
    """Runs the command line in this process, on the test's own home folder.

    It starts no interpreter, so it is for many cases of what is proven with `footpath` once. A
    sentence that the command line would print is in `exception`.
    """

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception and not isinstance(result.exception, (FootpathError, SystemExit)):
            raise result.exception
        return result

    return run


@pytest.fixture
def refused_here(command: Callable[..., Result]) -> Callable[..., str]:
    """Runs a command that must fail in this process, and returns its sentence."""

    def run(*arguments: str) -> str:
        result = command(*arguments)
        assert isinstance(result.exception, FootpathError), result.output
        return str(result.exception)

    return run


@pytest.fixture(scope="session")
def small_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder after `footpath run` on a shop of 200 users and 21 days.

    Its YAML is the shipped one with two of the tasks, fewer recipes, two shares of labels, and a
    pass of training where that has many.
    """
    home = tmp_path_factory.mktemp("home")
    shop = yaml.safe_load((DATASETS / "shop.yaml").read_text())
    shop["tasks"] = [task for task in shop["tasks"] if task["name"] != "age"]
    shop["learning"] |= {
        "epochs": 1,
        "finetuning": {"epochs": 1},
        "label_shares": [0.5, 1.0],
        "recipes": ["ptum_bert4rec", "future_bag", "none_bag"],
        "settings": {},
    }
    (home / "datasets").mkdir()
    (home / "datasets" / "shop.yaml").write_text(json.dumps(shop, default=str))  # which is YAML
    result = footpath(home, "run", "--users", "200", "--days", "21")
    assert result.returncode == 0, result.stdout + result.stderr
    (home / "run.out").write_text(result.stdout)
    return home
