"""The examples in the docs run with `feast` alone, from a folder where nothing of ours is found."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from features.store import materialize, promote, repository
from tests.builders.datasets import shop
from tests.builders.store import small_lake
from tests.conftest import REPOSITORY

EXAMPLES = REPOSITORY / "docs" / "examples"
IMPORTED = {
    "retrieve.py": {"feast", "fsspec", "ibis", "pandas"},
    "model.py": {"feast", "joblib", "numpy", "pandas", "sklearn"},
}


def run(example: str, folder: Path, *arguments: str) -> str:
    done = start(example, folder, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def start(example: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-I", str(EXAMPLES / example), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("example", IMPORTED)
def test_the_examples_import_only_feast_and_what_comes_with_it(example: str):
    imported = set()
    for node in ast.walk(ast.parse((EXAMPLES / example).read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
    assert imported - set(sys.stdlib_module_names) == IMPORTED[example]


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
    repo = str(repository(lake) / "stock")
    said = run("retrieve.py", tmp_path, "--repo", repo, "--labels", str(labels))
    assert "Training set of user_representation__v1: 2 rows" in said
    assert "Online read of user_representation__v1: 2 users" in said
    assert "embedding_ptum_bert4rec_v1" in said


def test_a_model_goes_on_with_its_service_when_the_alias_moves_and_is_told(
    lake_home: Path, tmp_path: Path
):
    dataset, lake = shop(), small_lake(lake_home, ("ptum_bert4rec_v1", "coles_bag_v1"))
    promote(dataset, lake, "ptum_bert4rec_v1")
    materialize(dataset, lake)
    rows = [f"u{n},2026-01-09T12:00:00+00:00,{n % 2}" for n in range(5)]
    rows.append("u1,2026-01-01T00:00:00+00:00,1")  # before the encoder's training data ends
    (tmp_path / "labels.csv").write_text("\n".join(["user_id,event_timestamp,bought", *rows]))
    repo, model = str(repository(lake) / "stock"), str(tmp_path / "model.joblib")
    said = run("model.py", tmp_path, "train", "--repo", repo, "--labels", "labels.csv",
               "--label", "bought", "--out", model)  # fmt: skip
    assert said == f"{model}: 5 labels, of user_representation__v1\n"
    csv = (tmp_path / "labels.csv").read_text().replace("bought", "purchase_7d")
    (tmp_path / "named.csv").write_text(csv)
    refused = start("model.py", tmp_path, "train", "--repo", repo, "--labels", "named.csv",
                    "--label", "purchase_7d", "--out", model)  # fmt: skip
    assert "purchase_7d of the labels is a feature of user_representation__v1" in refused.stderr
    ask = ("serve", "--repo", repo, "--model", model, "u1", "nobody", "u0")
    first = run("model.py", tmp_path, *ask)
    assert [line.split()[0] for line in first.splitlines()] == ["user_id", "u1", "nobody", "u0"]
    assert all(0 <= float(line.split()[1]) <= 1 for line in first.splitlines()[1:])

    promote(dataset, lake, "coles_bag_v1")
    after = run("model.py", tmp_path, *ask)
    assert after == first + (
        "user_representation is user_representation__v2 now: train again; "
        "user_representation__v1 is served until further notice\n"
    )
