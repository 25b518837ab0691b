"""The house: generic package names resolve to this repository, and its doors are light."""

import importlib.metadata
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

ROOMS = ["contracts", "features", "models", "validation", "orchestration"]
HEAVY = ["torch", "feast", "great_expectations", "sklearn", "pandas", "ibis", "matplotlib"]


@pytest.mark.parametrize("room", ROOMS)
def test_a_package_name_resolves_inside_the_repository(room: str):
    module = __import__(room)
    assert module.__file__ == str(REPOSITORY / room / "__init__.py")


def test_no_installed_distribution_but_ours_owns_a_package_name():
    owners = importlib.metadata.packages_distributions()
    for room in ROOMS:
        assert set(owners.get(room, ["footpath"])) == {"footpath"}


@pytest.mark.parametrize(
    "door",
    [
        "import orchestration.definitions",
        "from orchestration.cli.main import app; app(['datasets', 'list'], standalone_mode=False)",
    ],
)
def test_definitions_and_the_command_line_load_nothing_heavy(door: str):
    code = (
        f"import contextlib, io, sys\nwith contextlib.redirect_stdout(io.StringIO()):\n    {door}\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.strip() == "[]"
