"""A program in a process of its own: its sentence reaches the run that started it."""

import datetime as dt
import shutil
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset, load_dataset
from contracts.config.learning import Validation
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json
from contracts.lake.reading import read_json
from orchestration.assets.learning import learning_assets
from orchestration.assets.learning_inputs import LearningRun, identity_of, validation_of
from orchestration.programs import ranks
from orchestration.versions import allocate
from tests.models.conftest import planted_labels, write_labels, write_sequences


def test_the_sentence_of_a_program_that_stops_is_the_run_s(lake_home):
    dataset, lake = load_dataset("ml-100k"), Lake.of("ml-100k")
    pointer = {"folder": "1998-04-22-gone", "fingerprint": "0" * 64}
    publish_json(lake, pointer, lake.root / "sequences" / "1998-04-22.json")
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            learning_assets(dataset),
            selection=[dg.AssetKey(["ml_100k", "pretrained_encoder"])],
            instance=instance,
            partition_key="none_bert4rec",
            resources={"pipes": dg.PipesSubprocessClient()},
            raise_on_error=False,
        )
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    error = failure.step_failure_data.error
    while error.cause:
        error = error.cause
    assert "FootpathError" in error.to_string()
    assert "1998-04-22" in error.message
    assert not (lake.root / "models" / "none_bert4rec_v1" / "config.json").exists()


def test_ranks_started_by_dagster_give_one_result_and_their_curves_while_they_run(
    lake_home, tmp_path, monkeypatch
):
    dataset, lake = load_dataset("ml-100k"), Lake.of("ml-100k")
    made = write_sequences(tmp_path, [20] * 60)
    shutil.copytree(made.parent, lake.root / "sequences")
    monkeypatch.setenv("FOOTPATH_RANKS", "2")
    asset = dg.AssetKey(["ml_100k", "pretrained_encoder"])
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            learning_assets(dataset),
            selection=[asset],
            instance=instance,
            partition_key="coles_bag",
            resources={"pipes": dg.PipesSubprocessClient()},
            run_config={"ops": {"ml_100k__pretrained_encoder": {"config": {"epochs": 3}}}},
        )
        records = instance.fetch_observations(asset, limit=10).records
        (made,) = instance.fetch_materializations(asset, limit=10).records
    assert result.success
    metadata = made.asset_materialization.metadata
    assert metadata["ranks"].value == 2
    trained = read_json(lake.root / "models" / "coles_bag_v1" / "config.json")
    assert trained["dim"] == dataset.learning.settings["coles_bag"]["dim"]
    assert trained["epochs"] == 3  # what is said for the run prevails
    assert metadata["steps"].value == 3
    figures = [record.asset_observation.metadata for record in records]
    assert [found["epoch"].value for found in figures] == [3, 1]  # newest first, not too often
    assert {"loss", "gradient_norm", "spread", "effective_rank"} <= figures[0].keys()
    assert records[0].asset_observation.partition == "coles_bag"
    assert records[-1].timestamp < made.timestamp
    assert "curves" in metadata


AS_OF = "2026-01-31"  # of the sequences that tests write
OTHER = {"value": 1.0, "label": "right"}  # what late data makes of the first user


def judged(**update) -> Dataset:
    dataset = load_dataset("ml-100k")
    learning = dataset.learning.model_copy(update=update)
    return dataset.model_copy(update={"learning": learning})


def label_gender(lake: Lake, **first) -> str:
    """Writes labels of 60 users; `first` changes the first row."""
    rows = [row | {"task": "gender"} for row in planted_labels(60) if row["task"] == "half"]
    rows[0] |= first
    return str(write_labels(lake.day("labels", dt.date.fromisoformat(AS_OF)), rows))


def version_of(lake: Lake, dataset: Dataset) -> str:
    settings = {"recipe": "coles_bag", "epochs": 2}
    if judge := validation_of(dataset, lake, AS_OF, LearningRun()):
        settings["validation"] = judge
    return allocate(lake, "coles_bag", AS_OF, identity_of(lake, settings, "data")).version


def test_a_task_of_the_data_set_stops_pre_training_early_and_its_labels_make_the_version(
    lake_home, tmp_path
):
    lake = Lake.of("ml-100k")
    shutil.copytree(write_sequences(tmp_path, [20] * 60).parent, lake.root / "sequences")
    for labeled in ({}, OTHER):
        label_gender(lake, **labeled)
        with dg.DagsterInstance.ephemeral() as instance:
            dg.materialize(
                learning_assets(judged(validation=Validation(task="gender"))),
                selection=[dg.AssetKey(["ml_100k", "pretrained_encoder"])],
                instance=instance,
                partition_key="coles_bag",
                resources={"pipes": dg.PipesSubprocessClient()},
                run_config={"ops": {"ml_100k__pretrained_encoder": {"config": {"epochs": 2}}}},
            )
    found = []
    for name in ("coles_bag_v1", "coles_bag_v2"):
        checkpoint = lake.root / "models" / name
        found.append(read_json(checkpoint / "config.json")["validation"])
        assert "best_epoch" in read_json(checkpoint / "metrics.json")
    one, two = found
    assert (one["task"], one["kind"], one["patience"]) == ("gender", "classification", 5)
    assert one.pop("fingerprint") != two.pop("fingerprint")
    assert one == two


def test_a_version_follows_the_rows_of_the_labels_that_stop_it_early_and_not_their_file(lake_home):
    lake = Lake.of("ml-100k")
    both = judged(), judged(validation=Validation(task="gender"))
    labels = Path(label_gender(lake))
    assert [version_of(lake, d) for d in both] == ["coles_bag_v1", "coles_bag_v2"]
    written = labels.read_bytes()
    pq.write_table(pq.read_table(labels), labels, row_group_size=7)
    assert labels.read_bytes() != written
    assert [version_of(lake, d) for d in both] == ["coles_bag_v1", "coles_bag_v2"]
    label_gender(lake, **OTHER)
    assert [version_of(lake, d) for d in both] == ["coles_bag_v1", "coles_bag_v3"]
    label_gender(lake)
    assert [version_of(lake, d) for d in both] == ["coles_bag_v1", "coles_bag_v2"]


def test_a_run_may_name_another_task_or_none(lake_home):
    lake, yaml = Lake.of("ml-100k"), Validation(task="gender", patience=2)
    plain, dataset = judged(), judged(validation=yaml)
    assert validation_of(plain, lake, AS_OF, LearningRun()) is None
    assert validation_of(dataset, lake, AS_OF, LearningRun(validation="none")) is None
    with pytest.raises(FootpathError, match=r"needs .*: materialize labels of 2026-01-31 first"):
        validation_of(dataset, lake, AS_OF, LearningRun())
    labels = label_gender(lake)
    common = {"labels": labels, "kind": "classification", "every_epochs": 1, "patience": 2}
    assert validation_of(dataset, lake, AS_OF, LearningRun()) == common | {"task": "gender"}
    other = validation_of(dataset, lake, AS_OF, LearningRun(validation="age"))
    assert other == common | {"task": "age"}
    with pytest.raises(FootpathError, match=r"no task 'shoe_size' whose .*: take .*or none"):
        validation_of(plain, lake, AS_OF, LearningRun(validation="shoe_size"))


def test_a_number_of_ranks_that_is_none_is_a_sentence(monkeypatch):
    monkeypatch.setenv("FOOTPATH_RANKS", "two")
    with pytest.raises(FootpathError, match="FOOTPATH_RANKS is 'two'"):
        ranks()
