"""The house: generic package names resolve to this repository, and its doors are light."""

import importlib.metadata
import re
import subprocess
import sys

import grimp
import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from tests.conftest import REPOSITORY

ROOMS = ["contracts", "features", "footpath_feast", "models", "validation", "orchestration"]
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


@pytest.mark.parametrize("program", ["models.train", "models.embed"])
def test_programs_that_fit_no_head_load_no_scikit_learn(program: str):
    code = f"import sys, {program}; print('sklearn' in sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "False"


def test_private_names_of_dagster_are_imported_in_one_file():
    private = re.compile(r"^\s*(from|import) dagster\w*\._", re.MULTILINE)
    files = [path for room in ROOMS for path in (REPOSITORY / room).rglob("*.py")]
    found = {path.name for path in files if private.search(path.read_text())}
    assert found == {"dagster_private.py"}


# Cycles of modules and packages that are still to be cut: take out of these, never add.
KNOWN_CYCLES = [
    {"features.daily", "features.ingestion", "features.provenance"},
]


def cycles_of(imports: set[tuple[str, str]]) -> list[set[str]]:
    """Groups of names each of which reaches all others: the strongly connected components."""
    names, ends = np.unique(np.array(sorted(imports)), return_inverse=True)
    ends, ones = ends.reshape(-1, 2), np.ones(len(imports))
    matrix = csr_array((ones, (ends[:, 0], ends[:, 1])), shape=(len(names), len(names)))
    _, owner = connected_components(matrix, connection="strong")
    groups = [set(names[owner == group].tolist()) for group in np.unique(owner)]
    return [group for group in groups if len(group) > 1]


@pytest.fixture(scope="module")
def imports() -> set[tuple[str, str]]:
    """Importer and imported module; imports inside functions count, those for types alone do not.

    What a package's `__init__` passes on is a door: its own modules may go through it.
    """
    graph = grimp.build_graph(*ROOMS, exclude_type_checking_imports=True, cache_dir=None)
    found = {
        (one, two) for one in graph.modules for two in graph.find_modules_directly_imported_by(one)
    }
    return {(one, two) for one, two in found if not one.startswith(f"{two}.")}


def test_no_modules_import_each_other_in_a_circle(imports):
    assert [c for c in cycles_of(imports) if not any(c <= known for known in KNOWN_CYCLES)] == []


def test_no_packages_import_each_other_in_a_circle(imports):
    packages = {tuple(".".join(m.split(".")[:2]) for m in pair) for pair in imports}
    found = cycles_of({(one, two) for one, two in packages if one != two})
    assert [c for c in found if not any(c <= known for known in KNOWN_CYCLES)] == []


def test_a_circle_of_imports_is_found():
    assert cycles_of({("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")}) == [{"a", "b", "c"}]


def test_parquet_is_read_past_the_names_of_its_folders():
    """DuckDB would take a folder key=value for a column, in place of the file's own."""
    call = re.compile(r"\bread_parquet\((?![^()]*hive_partitioning ?= ?False)|\bparquet_scan\(")
    files = [path for room in ROOMS for path in (REPOSITORY / room).rglob("*.py")]
    found = {str(p.relative_to(REPOSITORY)) for p in files if call.search(p.read_text())}
    assert found == {"contracts/base/sql.py"}
