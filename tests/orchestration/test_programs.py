"""A program in a process of its own: its sentence reaches the run that started it."""

import shutil

import dagster as dg
import pytest

from contracts.dataset import load_dataset
from contracts.errors import FootpathError
from contracts.lake import Lake
from contracts.publishing import publish_json
from contracts.reading import read_json
from orchestration.assets.learning import learning_assets
from orchestration.programs import ranks
from tests.models.conftest import write_sequences


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


def test_a_number_of_ranks_that_is_none_is_a_sentence(monkeypatch):
    monkeypatch.setenv("FOOTPATH_RANKS", "two")
    with pytest.raises(FootpathError, match="FOOTPATH_RANKS is 'two'"):
        ranks()
