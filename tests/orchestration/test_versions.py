"""A configuration on the same data is one version; anything else is the next."""

import json

import numpy as np
import pyarrow as pa
import pytest

from contracts.config.dataset import load_dataset
from contracts.config.metrics import KNOWN_METRICS, Metric
from contracts.config.tasks import Task
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from contracts.lake.schemas import METRICS
from models.metrics.formulas import FORMULAS, mean_of
from models.metrics.predictions import Predicted, as_rows, predictions_table
from orchestration.promotion import leader, leading_version
from orchestration.versions import all_versions, allocate, latest_finished


def finish(lake: Lake, version: str) -> None:
    folder = lake.root / "models" / version
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"version": version}))


def test_the_same_configuration_is_the_same_version_and_another_the_next(lake_home):
    lake = Lake.of("shop")
    first = allocate(lake, "ptum_bert4rec", "2026-02-01", {"dim": 64, "seed": 0})
    again = allocate(lake, "ptum_bert4rec", "2026-02-01", {"seed": 0, "dim": 64})
    other = allocate(lake, "ptum_bert4rec", "2026-02-01", {"dim": 32, "seed": 0})
    assert [first.version, again.version, other.version] == [
        "ptum_bert4rec_v1",
        "ptum_bert4rec_v1",
        "ptum_bert4rec_v2",
    ]
    assert [v.version for v in all_versions(lake)] == ["ptum_bert4rec_v1", "ptum_bert4rec_v2"]


def test_an_unfinished_version_is_not_used(lake_home):
    lake = Lake.of("shop")
    allocate(lake, "ptum_bert4rec", "2026-02-01", {"dim": 64})
    assert latest_finished(lake, "ptum_bert4rec") is None
    finish(lake, "ptum_bert4rec_v1")
    allocate(lake, "ptum_bert4rec", "2026-02-01", {"dim": 32})
    assert latest_finished(lake, "ptum_bert4rec").version == "ptum_bert4rec_v1"


def measure(
    lake: Lake, recipe: str, test: float, valid: list[float] | None, metric: str = "auc"
) -> str:
    """Publishes a version with a test figure and, where given, scores of four validation users."""
    version = allocate(lake, recipe, "2026-02-01", {"recipe": recipe}).version
    finish(lake, version)
    method, encoder = recipe.split("_")
    run = {
        "method": method,
        "encoder": encoder,
        "protocol": "frozen",
        "inputs": "embedding",
        "task": "gender",
        "label_share": 1.0,
        "seed": 0,
    }
    measured = {"metric": metric, "value": test, "train_users": 8, "test_users": 1, "seconds": 0.0}
    row = run | measured | {"model_version": version}
    publish_table(lake, pa.Table.from_pylist([row], METRICS), lake.single(f"metrics/{version}"))
    if valid is not None:
        p_n = np.array(valid)
        said = Predicted(
            "classification", np.arange(4), np.array([0, 0, 1, 1]), np.stack([1 - p_n, p_n], 1)
        )
        if metric != "auc":
            said = Predicted("regression", said.users_n, said.y_n, p_n[:, None])
        # What is said of test users must not matter: here it would turn the order around.
        turned = Predicted(said.kind, said.users_n, 1 - said.y_n, said.scores_nC)
        table = predictions_table(as_rows(run, {"valid": said, "test": turned}))
        publish_table(lake, table, lake.single(f"predictions/{version}"))
    return version


def embed(lake: Lake, version: str) -> None:
    path = lake.root / "user_embeddings" / version / "2026-02-01.parquet"
    publish_table(lake, pa.table({"user_id": ["u1"]}), path)


GOOD, FAIR = [0.1, 0.2, 0.8, 0.9], [0.1, 0.6, 0.5, 0.9]


def test_the_version_that_leads_by_its_validation_users_is_promoted(lake_home):
    lake, dataset = Lake.of("shop"), load_dataset("shop")
    assert leading_version(dataset, lake) is None
    versions = [
        measure(lake, "ptum_bert4rec", 0.9, FAIR),
        measure(lake, "coles_bag", 0.6, GOOD),
        measure(lake, "none_bag", 0.99, GOOD),
    ]
    assert leading_version(dataset, lake) is None  # nothing is embedded yet
    for version in versions:
        embed(lake, version)
    found = leader(dataset, lake)
    assert found == leader(dataset, lake, is_embedded=False)
    assert str(found) == (
        "coles_bag_v1 leads by its validation users (frozen probe, mean over gender: 1.000)"
    )


@pytest.mark.parametrize("valid", [GOOD, None])
@pytest.mark.parametrize("metric", ["mae", "rmse", "added"])
def test_the_smallest_error_is_promoted_of_a_metric_that_is_added_too(
    lake_home, monkeypatch, metric, valid
):
    added = Metric("added", ("regression",), larger_is_better=False)
    monkeypatch.setitem(KNOWN_METRICS, "added", added)
    monkeypatch.setitem(FORMULAS, "added", mean_of(lambda p: abs(p.scores_nC[:, 0] - p.y_n) ** 3))
    asked = {"sql": "count(*)", "horizon_days": 1, "metric": metric}
    task = Task(name="gender", kind="regression", **asked)
    lake, dataset = Lake.of("shop"), load_dataset("shop").model_copy(update={"tasks": [task]})
    measure(lake, "ptum_bert4rec", 0.9, valid and FAIR, metric)
    measure(lake, "coles_bag", 0.1, valid, metric)
    assert leader(dataset, lake, is_embedded=False).version == "coles_bag_v1"


@pytest.mark.parametrize(("auc", "best"), [(0.9, "coles_bag_v1"), (0.5, "ptum_bert4rec_v1")])
def test_without_validation_figures_of_all_the_test_users_decide_and_it_is_said(
    lake_home, auc, best
):
    lake, dataset = Lake.of("shop"), load_dataset("shop")
    for version in (
        measure(lake, "ptum_bert4rec", 0.7, None),
        measure(lake, "coles_bag", auc, FAIR),
        measure(lake, "none_bag", 0.99, None),
    ):
        embed(lake, version)
    found = leader(dataset, lake)
    assert found.version == best
    assert "leads by its test users" in found.reason
    assert "when ptum_bert4rec_v1 was measured: materialize" in found.reason


def test_a_version_that_nothing_is_known_of_is_promoted_for_being_the_newest(lake_home):
    lake = Lake.of("shop")
    version = allocate(lake, "ptum_bert4rec", "2026-02-01", {"dim": 64}).version
    assert leader(load_dataset("shop"), lake, is_embedded=False) is None  # it is not finished
    finish(lake, version)
    embed(lake, version)
    found = str(leader(load_dataset("shop"), lake))
    assert found == "ptum_bert4rec_v1 is the newest version; none is measured"
