"""The example in the docs runs with `feast` alone, from a folder where nothing of ours is found."""

import ast
import os
import subprocess
import sys
from pathlib import Path

from features.store import materialize, promote, repository
from tests.builders.datasets import shop
from tests.builders.store import small_lake
from tests.conftest import REPOSITORY

EXAMPLE = REPOSITORY / "docs" / "examples" / "retrieve.py"


def test_the_example_imports_only_feast_and_what_comes_with_it():
    imported = set()
    for node in ast.walk(ast.parse(EXAMPLE.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    assert imported - set(sys.stdlib_module_names) == {"feast", "fsspec", "ibis", "pandas"}


def test_the_example_prints_a_training_set_and_an_online_read(lake_home: Path, tmp_path: Path):
    dataset, lake = shop(), small_lake(lake_home)
    promote(dataset, lake, "ptum_bert4rec_v1")
    materialize(dataset, lake)
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "user_id,event_timestamp,bought\n"
        "u1,2026-01-09T12:00:00+00:00,1\n"
        "nobody,2026-01-12T00:00:00+00:00,0\n"
        "u1,2026-01-01T00:00:00+00:00,1\n"  # before the encoder's training data ends
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-I", str(EXAMPLE), "--repo", str(repository(lake) / "stock")]
    result = subprocess.run(
        [*command, "--labels", str(labels)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Training set of user_representation__v1: 2 rows" in result.stdout
    assert "Online read of user_representation__v1: 2 users" in result.stdout
    assert "embedding_ptum_bert4rec_v1" in result.stdout
