"""What a program reads is fetched from S3 before it starts, and what it made is sent after."""

import datetime as dt
from pathlib import Path

import pyarrow.parquet as pq

from contracts.config.comparison import yaml_comparison
from contracts.config.dataset import load_dataset
from contracts.lake.layout import Lake
from contracts.lake.paths import is_remote, key_of, system_of
from contracts.lake.versions import CONFIG, WEIGHTS, all_versions, allocate, is_trained
from contracts.recipes.recipe import Recipe
from models.experiments.cells import local_model
from models.experiments.planning import Planner
from orchestration.experiments.inputs import day_source
from tests.builders.sequences import planted_labels, write_labels, write_sequences
from tests.orchestration.experiments.in_dagster import run_plan
from tests.s3.conftest import Bucket

AS_OF = "2026-01-31"
SMALL = {"dim": 8, "max_length": 10, "epochs": 2, "batch_size": 16}


def put(lake: Lake, made: Path, key: str) -> None:
    system_of(lake.root).put(str(made), key_of(lake.root / key), recursive=made.is_dir())


def test_all_that_programs_read_is_fetched_and_all_that_they_make_is_sent(
    bucket: Bucket, lake_home: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("FOOTPATH_LAKE", f"{bucket.url}/lake")
    dataset, lake = load_dataset("ml-100k"), Lake.of("ml-100k")
    pointer = write_sequences(tmp_path, [20] * 60)
    rows = [row | {"task": "gender"} for row in planted_labels(60) if row["task"] == "half"]
    put(lake, pointer.parent, "sequences")
    put(lake, write_labels(tmp_path / f"{AS_OF}.parquet", rows), f"labels/{AS_OF}.parquet")
    source = day_source(dataset, lake, dt.date.fromisoformat(AS_OF), with_features=False)
    folder = source.sequences.parent / pointer.name.removesuffix(".json")
    assert source.sequences.is_file()
    assert source.labels.is_file()
    assert list(folder.parent.glob("*/users.parquet"))

    recipe = Recipe.named("coles_bag", SMALL | {"validation": {"task": "gender"}})
    wanted = yaml_comparison(dataset, {"coles_bag": recipe}).model_copy(
        update={"tasks": ("gender",), "shares": (1.0,), "protocols": ("frozen", "finetuned")}
    )
    planner = Planner(wanted, dataset, lake, {"day": source}, keep_models=True)
    plan = planner.plan()
    training = plan.jobs[1]
    version = allocate(lake, "coles_bag", training.trial, AS_OF)
    outcome = run_plan(lake, plan)
    assert not outcome.failed
    assert is_remote(version.folder(lake))
    assert version.is_finished(lake)
    assert (version.folder(lake) / WEIGHTS).exists()
    assert all(cell.is_done() for cell in plan.cells)
    kept = [cell for cell in plan.cells if cell.keeps_model]
    assert [cell.protocol for cell in kept] == ["frozen", "finetuned"]
    assert all(is_trained(lake, cell.key) for cell in kept)
    assert planner.plan().jobs == []
    # Another machine, that has nothing of it here, gets the checkpoint for what it measures.
    monkeypatch.setenv("FOOTPATH_HOME", str(tmp_path / "another"))
    there = Lake.of("ml-100k")
    copy = local_model(there, training.trial)
    assert not is_remote(copy)
    assert {path.name for path in copy.iterdir()} >= {CONFIG, WEIGHTS, "vocabulary.json"}
    assert [known.version for known in all_versions(there)] == ["coles_bag_v1"]
    assert pq.read_table(copy / "curves.parquet").num_rows
