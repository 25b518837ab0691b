"""Versions are names for trials; which of them leads is said by the validation users."""

import json

import numpy as np
import pyarrow as pa
import pytest

from contracts.base.errors import FootpathError
from contracts.config.comparison import NamedRecipe
from contracts.config.dataset import load_dataset
from contracts.config.metrics import KNOWN_METRICS, Metric
from contracts.config.tasks import Task
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json, publish_table
from contracts.lake.schemas import METRICS
from contracts.lake.versions import (
    CONFIG,
    all_versions,
    allocate,
    allocate_for_task,
    latest_finished,
    trial_folder,
    version_named,
)
from contracts.recipes.checkpoint import CheckpointFacts
from contracts.recipes.recipe import Recipe
from features.store.services import REPRESENTATION_SERVICE
from models.experiments.cells import CODE, Cell, Measured, keep_measured
from models.metrics.formulas import FORMULAS, mean_of
from models.metrics.predictions import Predicted, as_rows, predictions_table
from orchestration.promotion.candidates import candidates, leader, name_task_model

DAY = "2026-02-01"


def finish(lake: Lake, trial: str, recipe: str = "ptum_bert4rec") -> None:
    facts = CheckpointFacts(
        recipe=Recipe.named(recipe, {}), seed=0, sizes={}, train_cutoff=f"{DAY}T00:00:00+00:00",
        vocabulary_hash="v", data_fingerprint="d", labels_fingerprint="", identity=trial,
        code_version="c", created=f"{DAY}T00:00:00+00:00", weights_hash="w",
    )  # fmt: skip
    publish_json(lake, facts.model_dump(mode="json"), trial_folder(lake, trial) / CONFIG)


def test_the_same_trial_is_the_same_version_and_another_the_next(lake_home):
    lake = Lake.of("shop")
    found = [allocate(lake, "ptum_bert4rec", trial, DAY) for trial in ("a", "a", "b", "a")]
    assert [each.version for each in found] == [
        "ptum_bert4rec_v1", "ptum_bert4rec_v1", "ptum_bert4rec_v2", "ptum_bert4rec_v1",
    ]  # fmt: skip
    assert [v.version for v in all_versions(lake)] == ["ptum_bert4rec_v1", "ptum_bert4rec_v2"]
    assert [v.trial for v in all_versions(lake)] == ["a", "b"]


def test_one_trial_may_have_names_of_two_recipes(lake_home):
    lake = Lake.of("shop")
    names = [allocate(lake, recipe, "a", DAY).version for recipe in ("none_bag", "wide_bag")]
    assert names == ["none_bag_v1", "wide_bag_v1"]


def test_a_fine_tuned_version_is_named_after_what_it_was_fine_tuned_from(lake_home):
    lake = Lake.of("shop")
    one, two = (allocate(lake, "coles_bag", trial, DAY) for trial in ("a", "b"))
    found = [
        allocate_for_task(lake, base, task, trial).version
        for base, task, trial in (
            (one, "gender", "x"), (one, "gender", "x"), (one, "age", "y"), (one, "gender", "z"),
            (one, "gender", "w"), (two, "gender", "v"), (two, "gender", "x"),
        )
    ]  # fmt: skip
    assert found == [
        "coles_bag_v1_gender", "coles_bag_v1_gender", "coles_bag_v1_age", "coles_bag_v1_gender_r2",
        "coles_bag_v1_gender_r3", "coles_bag_v2_gender", "coles_bag_v1_gender",
    ]  # fmt: skip
    assert allocate(lake, "coles_bag", "c", DAY).version == "coles_bag_v3"  # they do not count
    assert latest_finished(lake, "coles_bag", "gender") is None
    finish(lake, "x")
    assert latest_finished(lake, "coles_bag", "gender").version == "coles_bag_v1_gender"
    assert latest_finished(lake, "coles_bag") is None


def test_an_unfinished_version_is_not_used(lake_home):
    lake = Lake.of("shop")
    allocate(lake, "ptum_bert4rec", "a", DAY)
    assert latest_finished(lake, "ptum_bert4rec") is None
    with pytest.raises(FootpathError, match="no finished model version 'ptum_bert4rec_v1': it has"):
        version_named(lake, "ptum_bert4rec_v1")
    finish(lake, "a")
    allocate(lake, "ptum_bert4rec", "b", DAY)
    assert latest_finished(lake, "ptum_bert4rec").version == "ptum_bert4rec_v1"
    assert version_named(lake, "ptum_bert4rec_v1").folder(lake) == trial_folder(lake, "a")


def test_names_of_another_format_are_refused_with_what_to_do(lake_home):
    lake = Lake.of("shop")
    allocate(lake, "ptum_bert4rec", "a", DAY)
    path = lake.root / "versions.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 0}))
    with pytest.raises(FootpathError, match=r"versions.json is of format 0.*: train the models"):
        all_versions(lake)


def publish(
    lake: Lake,
    cell: Cell,
    recipe: str,
    valid: list[float],
    test: float,
    metric: str,
    profile: list[float] | None = None,
):
    """Publishes a measured cell with scores of four validation users, and those of a profile."""
    method, encoder = recipe.split("_")
    run = {
        "method": method, "encoder": encoder, "protocol": cell.protocol, "inputs": "embedding",
        "task": cell.task, "label_share": cell.share, "seed": 0,
    }  # fmt: skip
    measured = {"metric": metric, "value": test, "train_users": 8, "test_users": 1, "seconds": 0.0}
    row = run | measured | {"model_version": ""}
    rows = pa.Table.from_pylist([row], METRICS).replace_schema_metadata({CODE: b"code"})
    p_n = np.array(valid)
    said = Predicted(
        "classification", np.arange(4), np.array([0, 0, 1, 1]), np.stack([1 - p_n, p_n], 1)
    )
    if metric != "auc":
        said = Predicted("regression", said.users_n, said.y_n, p_n[:, None])
    # What is said of test users must not matter: here it would turn the order around.
    turned = Predicted(said.kind, said.users_n, 1 - said.y_n, said.scores_nC)
    said_rows = as_rows(run, {"valid": said, "test": turned})
    if profile:
        p_n = np.array(profile)
        stacked = Predicted(said.kind, said.users_n, said.y_n, np.stack([1 - p_n, p_n], 1))
        said_rows += as_rows(run | {"inputs": "profile"}, {"valid": stacked, "test": turned})
    table = predictions_table(said_rows)
    publish_table(lake, table, cell.predictions)
    publish_table(lake, rows, cell.path)


def measure(
    lake: Lake,
    recipe: str,
    valid: dict[str, list[float]],
    metric: str = "auc",
    trial: str = "",
    test: float = 0.5,
    profile: list[float] | None = None,
) -> str:
    """Publishes a version with, by protocol, scores of four validation users.

    With those of a profile, this is kept, as what was fine-tuned always is.
    """
    trial = trial or f"trial-{recipe}"
    version = allocate(lake, recipe, trial, DAY).version
    finish(lake, trial, recipe)
    cells = []
    for protocol, scores in valid.items():
        for share, said in ((1.0, scores), (0.5, [1 - s for s in scores])):
            kept = ("finetuned", "frozen") if profile else ("finetuned",)
            keeps = protocol in kept and share == 1.0
            cell = Cell(lake, f"{trial}-{protocol}-{share}", "gender", share, protocol, keeps)
            stacked = profile if protocol == "frozen" and share == 1.0 else None
            publish(lake, cell, recipe, said, test, metric, stacked)
            if keeps:
                finish(lake, cell.key, recipe)
            cells.append(cell)
    named = NamedRecipe(name=recipe, recipe=Recipe.named(recipe, {}))
    # Those of another seed, that would turn the order around, do not count.
    other = Cell(lake, f"{trial}-seed1", "gender", 1.0, "frozen")
    publish(lake, other, recipe, [1 - s for s in valid.get("frozen", GOOD)], test, metric)
    keep_measured(lake, version, [
        Measured(named, "gender", 0, cells, trial, "-"), Measured(named, "gender", 1, [other]),
    ])  # fmt: skip
    return version


def embed(lake: Lake, version: str) -> None:
    path = lake.root / "user_embeddings" / version / f"{DAY}.parquet"
    publish_table(lake, pa.table({"user_id": ["u1"]}), path)


GOOD, FAIR, POOR = [0.1, 0.2, 0.8, 0.9], [0.1, 0.6, 0.5, 0.9], [0.9, 0.6, 0.5, 0.1]


def test_the_version_that_leads_by_its_validation_users_is_promoted(lake_home):
    lake, dataset = Lake.of("shop"), load_dataset("shop")
    assert leader(dataset, lake) is None
    versions = [
        measure(lake, "ptum_bert4rec", {"frozen": FAIR}, test=0.9),
        measure(lake, "coles_bag", {"frozen": GOOD}, test=0.6),
        measure(lake, "none_bag", {"frozen": GOOD}, test=0.99),
    ]
    assert candidates(dataset, lake, REPRESENTATION_SERVICE) == []  # nothing is embedded yet
    for version in versions:
        embed(lake, version)
    found = leader(dataset, lake)
    assert found == candidates(dataset, lake, REPRESENTATION_SERVICE)[0]
    assert str(found) == (
        "coles_bag_v1 leads by its validation users (frozen probe, mean over gender: 1.000)"
    )


@pytest.mark.parametrize("metric", ["mae", "rmse", "added"])
def test_the_smallest_error_is_promoted_of_a_metric_that_is_added_too(
    lake_home, monkeypatch, metric
):
    added = Metric("added", ("regression",), larger_is_better=False)
    monkeypatch.setitem(KNOWN_METRICS, "added", added)
    monkeypatch.setitem(FORMULAS, "added", mean_of(lambda p: abs(p.scores_nC[:, 0] - p.y_n) ** 3))
    asked = {"sql": "count(*)", "horizon_days": 1, "metric": metric}
    task = Task(name="gender", kind="regression", **asked)
    lake, dataset = Lake.of("shop"), load_dataset("shop").model_copy(update={"tasks": [task]})
    measure(lake, "ptum_bert4rec", {"frozen": FAIR, "finetuned": GOOD}, metric)
    measure(lake, "coles_bag", {"frozen": GOOD, "finetuned": FAIR}, metric)
    assert leader(dataset, lake).version == "coles_bag_v1"
    assert name_task_model(dataset, lake, "gender").version == "ptum_bert4rec_v1_gender"


def test_the_newest_version_of_a_recipe_is_the_candidate(lake_home):
    lake, dataset = Lake.of("shop"), load_dataset("shop")
    measure(lake, "coles_bag", {"frozen": GOOD})
    measure(lake, "coles_bag", {"frozen": POOR}, trial="b")
    measure(lake, "ptum_bert4rec", {"frozen": FAIR})
    assert leader(dataset, lake).version == "ptum_bert4rec_v1"


def test_what_was_measured_decides_even_if_its_inputs_were_built_anew(lake_home):
    lake, dataset = Lake.of("shop"), load_dataset("shop")
    measure(lake, "ptum_bert4rec", {"frozen": GOOD})
    publish_json(lake, {"fingerprint": "another"}, lake.root / "sequences" / f"{DAY}.json")
    assert "leads by its validation users" in str(leader(dataset, lake))


def test_a_version_that_nothing_is_known_of_is_promoted_for_being_the_newest(lake_home):
    lake = Lake.of("shop")
    version = allocate(lake, "ptum_bert4rec", "a", DAY).version
    assert leader(load_dataset("shop"), lake) is None  # it is not finished
    finish(lake, "a")
    embed(lake, version)
    found = str(leader(load_dataset("shop"), lake))
    assert found == "ptum_bert4rec_v1 is the newest version; none is measured"


def test_the_best_fine_tuned_model_by_its_validation_users_becomes_a_version(lake_home):
    lake, dataset = Lake.of("shop"), load_dataset("shop")
    assert name_task_model(dataset, lake, "gender") is None
    measure(lake, "ptum_bert4rec", {"frozen": GOOD, "finetuned": FAIR}, test=0.9)
    measure(lake, "coles_bag", {"frozen": FAIR, "finetuned": GOOD}, test=0.6)
    found = name_task_model(dataset, lake, "gender")
    assert (found.version, found.task) == ("coles_bag_v1_gender", "gender")
    assert found.trial == "trial-coles_bag-finetuned-1.0"
    assert name_task_model(dataset, lake, "gender") == found
    assert found in all_versions(lake)
    assert name_task_model(dataset, lake, "age") is None
    # It leads nothing: a downstream team gets pre-trained vectors as they are.
    embed(lake, found.version)
    embed(lake, "ptum_bert4rec_v1")
    embed(lake, "coles_bag_v1")
    assert leader(dataset, lake).version == "ptum_bert4rec_v1"


def test_the_model_of_a_task_is_the_best_profile(lake_home):
    lake, dataset = Lake.of("shop"), load_dataset("shop")
    measure(lake, "ptum_bert4rec", {"frozen": POOR, "finetuned": FAIR}, profile=GOOD)
    found = name_task_model(dataset, lake, "gender")
    assert (found.version, found.task) == ("ptum_bert4rec_v1_gender_profile", "gender")
    assert found.trial == "trial-ptum_bert4rec-frozen-1.0"
    assert name_task_model(dataset, lake, "gender") == found
    assert leader(dataset, lake).version == "ptum_bert4rec_v1"  # by its vector alone
    assert candidates(dataset, lake, "gender") == []  # it is not embedded yet
    embed(lake, found.version)
    (candidate,) = candidates(dataset, lake, "gender")
    assert candidate.version == found.version
    measure(lake, "byb_bag", {"frozen": GOOD, "finetuned": FAIR}, profile=POOR)
    assert name_task_model(dataset, lake, "gender") == found


def test_a_fine_tuned_model_takes_its_place_only_beyond_luck(lake_home):
    lake, dataset = Lake.of("shop"), load_dataset("shop")
    measure(lake, "ptum_bert4rec", {"frozen": POOR, "finetuned": GOOD}, profile=FAIR)
    found = name_task_model(dataset, lake, "gender")
    assert found.version == "ptum_bert4rec_v1_gender_profile"  # of four users it may be luck
    measure(lake, "ptum_bert4rec", {"frozen": POOR, "finetuned": GOOD}, profile=POOR, trial="b")
    assert name_task_model(dataset, lake, "gender").version == "ptum_bert4rec_v2_gender"
    (trial_folder(lake, "b-finetuned-1.0") / CONFIG).unlink()
    assert name_task_model(dataset, lake, "gender").version == "ptum_bert4rec_v2_gender_profile"
