"""A program in a process of its own: its sentence reaches the run that started it."""

import dagster as dg

from contracts.dataset import load_dataset
from contracts.lake import Lake, publish_json
from orchestration.assets.learning import learning_assets


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
