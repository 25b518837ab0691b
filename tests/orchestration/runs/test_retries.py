"""What fails in passing is tried again with a growing wait, and what is refused is not."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest

from contracts.base.errors import FootpathError, TransientError
from contracts.lake.layout import Lake
from orchestration.assets.learning import learning_assets
from orchestration.assets.learning_inputs import LearningRun
from orchestration.runs import retries
from orchestration.runs.retries import RETRIES, retried
from orchestration.tags import range_tags
from tests.orchestration.assets.test_programs import learned, put_sequences, trial_of

EPOCHS = 2


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "WAIT_SECONDS", 0.01)


class LostError(ConnectionError):
    """As a client library raises it."""


@pytest.mark.parametrize(
    ("errors", "tries", "success"),
    [
        ([TransientError("away")], 2, True),
        ([LostError("away"), TimeoutError("away")], 3, True),
        ([TransientError("away")] * 9, RETRIES + 1, False),
        ([FootpathError("a wrong file")], 1, False),
        ([ValueError("a bug")], 1, False),
    ],
)
def test_only_what_may_pass_is_tried_again(
    errors: list[Exception], tries: int, success: bool
) -> None:
    left, tried = list(errors), []

    @dg.asset
    def table(context: dg.AssetExecutionContext) -> None:
        tried.append(context.run_id)
        with retried(context):
            if left:
                raise left.pop(0)

    result = dg.materialize([table], raise_on_error=False)
    assert (len(tried), result.success) == (tries, success)
    if not success:
        (failure,) = [event for event in result.all_events if event.is_step_failure]
        assert str(errors[0]) in failure.step_failure_data.error.to_string()


@contextlib.contextmanager
def killing(trial: str, times: int) -> Iterator[None]:
    """Kills the processes that train a trial as they start, so many of them."""
    ended = threading.Event()

    def watch() -> None:
        killed: set[int] = set()
        while len(killed) < times and not ended.wait(0.01):
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if child.pid not in killed and trial in " ".join(child.cmdline()):
                        child.kill()
                        killed.add(child.pid)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("kills", "made"), [(1, {"manymask_bag", "coles_bag"}), (9, {"coles_bag"})]
)
def test_a_training_that_was_killed_is_tried_again_and_the_others_are_recorded_in_any_case(
    lake_home: Path, tmp_path: Path, kills: int, made: set[str]
):
    dataset, lake = learned("gender"), Lake.of("ml-100k")
    put_sequences(lake, tmp_path)
    doomed = trial_of(lake, dataset, LearningRun(epochs=EPOCHS), "manymask_bag")
    asset = dg.AssetKey(["ml_100k", "pretrained_encoder"])
    with dg.DagsterInstance.ephemeral() as instance, killing(doomed, kills):
        result = dg.materialize(
            learning_assets(dataset),
            selection=[asset],
            instance=instance,
            tags=range_tags("manymask_bag", "coles_bag"),
            resources={"pipes": dg.PipesSubprocessClient()},
            run_config={"ops": {"ml_100k__pretrained_encoder": {"config": {"epochs": EPOCHS}}}},
            raise_on_error=False,
        )
        assert instance.get_materialized_partitions(asset) == made
        records = instance.fetch_materializations(asset, limit=9).records
    assert result.success is (len(made) == 2)
    assert all("version" in record.asset_materialization.metadata for record in records)
