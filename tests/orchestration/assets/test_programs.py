"""Assets of learning on small lakes, by real programs: what they say and what they train once."""

import datetime as dt
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from contracts.base.errors import FootpathError
from contracts.config.comparison import yaml_comparison
from contracts.config.dataset import Dataset, load_dataset
from contracts.config.learning import Validation
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json
from contracts.lake.reading import read_json
from contracts.lake.versions import (
    WEIGHTS,
    all_versions,
    allocate,
    latest_finished,
)
from contracts.recipes.checkpoint import load_facts
from models.experiments.planning import Plan, Planner
from orchestration.assets.evaluation import evaluation_assets
from orchestration.assets.learning import learning_assets
from orchestration.assets.learning_inputs import LearningRun, recipes_of_run
from orchestration.experiments.inputs import day_source
from orchestration.experiments.programs import ranks
from orchestration.experiments.store import not_measured, planner_of, planner_of_version
from orchestration.progress import Progress
from tests.builders.sequences import planted_labels, write_labels, write_sequences
from tests.orchestration.experiments.in_dagster import run_plan

AS_OF = "2026-01-31"  # of the sequences that tests write
OTHER = {"value": 1.0, "label": "right"}  # what late data makes of the first user


def materialize(
    dataset: Dataset, name: str, partition: str | None, instance: dg.DagsterInstance, **config: Any
) -> dg.ExecuteInProcessResult:
    """Materializes an asset of learning."""
    settings = {"ops": {f"{dataset.slug}__{name}": {"config": config}}} if config else {}
    return dg.materialize(
        [*learning_assets(dataset), *evaluation_assets(dataset)],
        selection=[dg.AssetKey([dataset.slug, name])],
        instance=instance,
        partition_key=partition,
        resources={"pipes": dg.PipesSubprocessClient(), "progress": Progress()},
        run_config=settings,
        raise_on_error=False,
    )


def put_sequences(lake: Lake, folder: Path) -> None:
    made = write_sequences(folder, [20] * 60)
    shutil.copytree(made.parent, lake.root / "sequences")


def learned(*tasks: str, **update: Any) -> Dataset:
    """ML-100K with some of its tasks, and with other settings of learning."""
    dataset = load_dataset("ml-100k")
    kept = [task for task in dataset.tasks if not tasks or task.name in tasks]
    learning = dataset.learning.model_copy(update=update)
    return dataset.model_copy(update={"learning": learning, "tasks": kept})


def label(lake: Lake, tasks: tuple[str, ...] = ("gender",), **first: Any) -> Path:
    """Writes labels of 60 users; `first` changes the first row."""
    halves = [row for row in planted_labels(60) if row["task"] == "half"]
    rows = [row | {"task": task} for task in tasks for row in halves]
    rows[0] |= first
    return write_labels(lake.day("labels", dt.date.fromisoformat(AS_OF)), rows)


def trial_of(lake: Lake, dataset: Dataset, run: LearningRun, name: str = "coles_bag") -> str:
    """The trial that an asset would train."""
    planner = planner_of(dataset, lake, recipes_of_run(dataset, [name], run), AS_OF, 0, False)
    return planner.training(planner.comparison.recipes[0], planner.sources["day"], 0).trial


def test_the_sentence_of_a_program_that_stops_is_the_run_s(lake_home):
    dataset, lake = load_dataset("ml-100k"), Lake.of("ml-100k")
    pointer = {"format": 2, "files": {}, "folder": "1998-04-22-gone", "fingerprint": "0" * 64}
    publish_json(lake, pointer, lake.root / "sequences" / "1998-04-22.json")
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize(dataset, "pretrained_encoder", "none_bag", instance)
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    error = failure.step_failure_data.error
    while error.cause:
        error = error.cause
    assert "FootpathError" in error.to_string()
    assert "none bag, seed 0: pre-training: " in error.message
    assert "1998-04-22" in error.message
    (version,) = all_versions(lake)
    assert not version.is_finished(lake)


def test_ranks_started_by_dagster_give_one_result_and_their_curves_while_they_run(
    lake_home, tmp_path, monkeypatch
):
    dataset, lake = load_dataset("ml-100k"), Lake.of("ml-100k")
    put_sequences(lake, tmp_path)  # and no labels: pre-training needs none
    monkeypatch.setenv("FOOTPATH_RANKS", "2")
    asset = dg.AssetKey(["ml_100k", "pretrained_encoder"])
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize(dataset, "pretrained_encoder", "coles_bag", instance, epochs=3)
        records = instance.fetch_observations(asset, limit=10).records
        (made,) = instance.fetch_materializations(asset, limit=10).records
        versions = instance.get_dynamic_partitions("ml_100k_model_versions")
    assert result.success
    assert versions == ["coles_bag_v1"]
    metadata = made.asset_materialization.metadata
    assert metadata["ranks"].value == 2
    assert metadata["version"].value == "coles_bag_v1"
    recipe = load_facts(latest_finished(lake, "coles_bag").folder(lake)).recipe
    assert recipe == dataset.recipes["coles_bag"].model_copy(update={"epochs": 3})
    assert metadata["steps"].value == 3
    figures = [record.asset_observation.metadata for record in records]
    assert [found["epoch"].value for found in figures] == [3, 1]  # newest first, not too often
    assert {"loss", "gradient_norm", "spread", "effective_rank"} <= figures[0].keys()
    assert records[0].asset_observation.partition == "coles_bag"
    assert records[-1].timestamp < made.timestamp
    assert "curves" in metadata


def test_a_task_of_the_data_set_stops_pre_training_early(lake_home, tmp_path):
    lake = Lake.of("ml-100k")
    put_sequences(lake, tmp_path)
    dataset = learned(validation=Validation(task="gender"))
    label(lake)
    with dg.DagsterInstance.ephemeral() as instance:
        assert materialize(dataset, "pretrained_encoder", "coles_bag", instance, epochs=2).success
    (version,) = all_versions(lake)
    facts = load_facts(version.folder(lake))
    assert "best_epoch" in read_json(version.folder(lake) / "metrics.json")
    stopping = facts.recipe.validation
    assert (stopping.task, stopping.kind, stopping.patience) == ("gender", "classification", 20)
    assert facts.labels_fingerprint


def test_a_version_follows_the_rows_of_the_labels_that_stop_it_early_and_not_their_file(
    lake_home, tmp_path
):
    lake = Lake.of("ml-100k")
    put_sequences(lake, tmp_path)
    both = learned(), learned(validation=Validation(task="gender"))

    def versions() -> list[str]:
        trials = [trial_of(lake, dataset, LearningRun()) for dataset in both]
        return [allocate(lake, "coles_bag", trial, AS_OF).version for trial in trials]

    labels = label(lake)
    assert versions() == ["coles_bag_v1", "coles_bag_v2"]
    written = labels.read_bytes()
    pq.write_table(pq.read_table(labels), labels, row_group_size=7)
    assert labels.read_bytes() != written
    assert versions() == ["coles_bag_v1", "coles_bag_v2"]
    label(lake, **OTHER)
    assert versions() == ["coles_bag_v1", "coles_bag_v3"]
    label(lake)
    assert versions() == ["coles_bag_v1", "coles_bag_v2"]


def test_a_run_may_name_another_task_or_none(lake_home, tmp_path):
    lake, yaml = Lake.of("ml-100k"), Validation(task="gender", patience=2)
    put_sequences(lake, tmp_path)
    plain, dataset = learned(), learned(validation=yaml)

    def stopping(of: Dataset, **run: str) -> dict | None:
        recipe = recipes_of_run(of, ["coles_bag"], LearningRun(**run))["coles_bag"]
        return recipe.validation and recipe.validation.model_dump()

    common = {"kind": "classification", "held_out": 0.1, "every_epochs": 1, "patience": 2}
    assert stopping(plain) == common | {"task": None, "patience": 20}  # by the method's own loss
    assert stopping(dataset, validation="none") is None
    assert stopping(dataset) == common | {"task": "gender"}
    assert stopping(dataset, validation="age") == common | {"task": "age"}
    with pytest.raises(FootpathError, match=r"task 'shoe_size', and the tasks .*; or say none"):
        stopping(plain, validation="shoe_size")
    with pytest.raises(FootpathError, match=r"is not there: materialize labels of 2026-01-31"):
        trial_of(lake, dataset, LearningRun())
    assert trial_of(lake, dataset, LearningRun(), "none_bag")  # trains nothing, needs none


def test_a_task_of_too_few_users_is_left_out_of_what_is_measured(lake_home, tmp_path):
    lake, tasks = Lake.of("ml-100k"), ("gender", "age")
    put_sequences(lake, tmp_path)
    rows = pq.read_table(label(lake, tasks)).to_pylist()
    kept = [row for row in rows if (row["task"], row["split"]) != ("age", "test")]
    write_labels(lake.day("labels", dt.date.fromisoformat(AS_OF)), kept)
    dataset = learned(*tasks)
    assert planner_of(dataset, lake, {}, AS_OF).comparison.tasks == ("gender",)
    assert not_measured(dataset, lake, AS_OF) == {"age": "nobody has a label in the test split"}
    with pytest.raises(FootpathError, match="no task of data set 'ml-100k' can be measured"):
        planner_of(learned("age"), lake, {}, AS_OF)
    assert planner_of(learned("age"), lake, {}, AS_OF, measures=False)


def comparison_plan(lake: Lake, dataset: Dataset, name: str) -> Plan:
    """What `footpath compare` would measure with these recipes."""
    source = day_source(dataset, lake, dt.date.fromisoformat(AS_OF), with_features=False)
    wanted = yaml_comparison(dataset, {name: dataset.recipes[name]})
    wanted = wanted.model_copy(update={"protocols": ("frozen",), "title": "A comparison"})
    return Planner(wanted, dataset, lake, {"day": source}).plan()


@pytest.mark.long
def test_a_comparison_and_the_assets_train_a_recipe_once_and_measure_it_once(lake_home, tmp_path):
    lake = Lake.of("ml-100k")
    put_sequences(lake, tmp_path)
    label(lake)
    dataset = learned("gender", label_shares=[1.0], seeds=1)
    with dg.DagsterInstance.ephemeral() as instance:
        assert materialize(dataset, "pretrained_encoder", "none_bag", instance).success
        plan = comparison_plan(lake, dataset, "none_bag")
        assert [job.module for job in plan.jobs] == ["models.baselines", "models.finetune"]
        # The other way round: what a comparison has trained is named, and not trained again.
        plan = comparison_plan(lake, dataset, "manymask_bag")
        assert not run_plan(lake, plan).failed
        (training,) = [job for job in plan.jobs if job.module == "models.train"]
        ran = lake.work / "runs" / f"{training.name}.json"
        ran.unlink()
        assert materialize(dataset, "pretrained_encoder", "manymask_bag", instance).success
        assert not ran.exists()
        assert latest_finished(lake, "manymask_bag").trial == training.trial
        baselines = next((lake.work / "runs").glob("measure-*.json"))
        before = {path: path.stat().st_mtime_ns for path in baselines.parent.glob("measure-*")}
        assert materialize(dataset, "task_baselines", None, instance).success
        after = {path: path.stat().st_mtime_ns for path in baselines.parent.glob("measure-*")}
        assert after == before


def test_a_moved_lake_keeps_its_versions_and_trains_nothing_again(lake_home, tmp_path, monkeypatch):
    dataset = load_dataset("ml-100k")
    put_sequences(Lake.of("ml-100k"), tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        assert materialize(dataset, "pretrained_encoder", "none_bag", instance).success
        moved = tmp_path / "somewhere" / "else"
        moved.parent.mkdir()
        lake_home.rename(moved)
        monkeypatch.setenv("FOOTPATH_HOME", str(moved))
        lake = Lake.of("ml-100k")
        (version,) = all_versions(lake)
        shutil.rmtree(lake.work / "runs")
        weights = version.folder(lake) / WEIGHTS
        before = weights.stat().st_mtime_ns
        assert materialize(dataset, "pretrained_encoder", "none_bag", instance).success
    assert [known.version for known in all_versions(lake)] == ["none_bag_v1"]
    assert weights.stat().st_mtime_ns == before
    assert not (lake.work / "runs").exists()  # no program was started
    assert not lake_home.exists()


def test_fine_tuning_measures_every_seed_and_names_the_best_model_of_each_task(lake_home, tmp_path):
    lake, tasks = Lake.of("ml-100k"), ("gender", "age")
    put_sequences(lake, tmp_path)
    label(lake, tasks)
    dataset = learned(*tasks, label_shares=[1.0], seeds=2)
    keys = [dg.AssetKey(["ml_100k", f"finetuned_{task}"]) for task in tasks]
    with dg.DagsterInstance.ephemeral() as instance:
        assert materialize(dataset, "pretrained_encoder", "coles_bag", instance, epochs=2).success
        result = dg.materialize(
            [*learning_assets(dataset), *evaluation_assets(dataset)],
            selection=keys,
            instance=instance,
            partition_key="coles_bag",
            resources={"pipes": dg.PipesSubprocessClient(), "progress": Progress()},
        )
        assert result.success
        versions = instance.get_dynamic_partitions("ml_100k_model_versions")
        (made,) = instance.fetch_materializations(keys[0], limit=10).records
        for name in ("task_baselines", "leaderboard"):
            assert materialize(dataset, name, None, instance).success
        (beat,) = instance.fetch_materializations(
            dg.AssetKey(["ml_100k", "task_baselines"]), limit=10
        ).records
        (board,) = instance.fetch_materializations(
            dg.AssetKey(["ml_100k", "leaderboard"]), limit=10
        ).records
    named = [f"coles_bag_v1_{task}_profile" for task in tasks]
    assert versions == ["coles_bag_v1", *named]
    for task in tasks:
        version = latest_finished(lake, "coles_bag", task)
        facts = load_facts(version.folder(lake))
        assert facts.task.spec.name == task
        assert facts.task.protocol == "frozen"
        assert facts.seed == 0
        assert facts.recipe.epochs == 2
    metadata = made.asset_materialization.metadata
    assert metadata["model_version"].value == "coles_bag_v1"
    metric = next(task.metric for task in dataset.tasks if task.name == "gender")
    assert 0 <= metadata[f"{metric}/finetuned/1"].value <= 1
    assert 0 <= beat.asset_materialization.metadata[f"gender/{metric}/tfidf_lr/1"].value <= 1
    shown = board.asset_materialization.metadata
    assert shown["cells not measured"].value == 0
    assert "coles_bag_v1 leads by its validation users" in shown["table"].value
    assert list((lake.root / "leaderboard").glob("leaderboard.html"))
    # Sequences that late data has changed are others than the version was trained on.
    pointer = lake.root / "sequences" / f"{AS_OF}.json"
    publish_json(lake, read_json(pointer) | {"fingerprint": "other"}, pointer)
    with pytest.raises(FootpathError, match=r"coles_bag_v1 was trained on .*: materialize pretr"):
        planner_of_version(dataset, lake, latest_finished(lake, "coles_bag"))


def test_a_number_of_ranks_that_is_none_is_a_sentence(monkeypatch):
    monkeypatch.setenv("FOOTPATH_RANKS", "two")
    with pytest.raises(FootpathError, match="FOOTPATH_RANKS is 'two'"):
        ranks()
