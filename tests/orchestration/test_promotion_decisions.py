"""A candidate takes the served version's place where it is better and healthy, and not else."""

import datetime as dt
import json
import shutil

import numpy as np
import pyarrow as pa
import pytest

from contracts.base.errors import FootpathError
from contracts.config.comparison import NamedRecipe
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json, publish_table
from contracts.lake.schemas import METRICS, embeddings_schema
from contracts.lake.versions import (
    CONFIG,
    allocate,
    allocate_for_task,
    latest_finished,
    trial_folder,
)
from contracts.recipes.checkpoint import CheckpointFacts
from contracts.recipes.recipe import Recipe
from features.store import apply_registry, check_online, materialize, missing_models
from features.store.promotions import read_promotions
from features.store.services import known_services
from models.experiments.cells import CODE, Cell, Measured, keep_measured
from models.metrics.predictions import Predicted, as_rows, predictions_table
from orchestration.automation.models import due_serving
from orchestration.promotion.decision import decide, unmeasured_incumbent
from orchestration.promotion.judging import SERVED
from orchestration.promotion.steps import pin, promote_by_hand, promote_due, roll_back, unpin
from tests.builders.datasets import shop
from tests.builders.store import DAY, behavior_rows, clocks, midnight, publish_behavior

SHOP = shop()
USERS = [f"u{k:03}" for k in range(120)]
Y = np.arange(60) % 2
ALIAS = "user_representation"
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(120, 8))


def scores(noise: float, seed: int = 0) -> np.ndarray:
    """Probabilities of 60 validation users: the more noise, the worse."""
    drawn = np.random.default_rng(seed).normal(size=60)
    return 1 / (1 + np.exp(-(Y - 0.5) * 2 - noise * drawn))


def measured_cell(lake: Lake, key: str, recipe: str, p: np.ndarray) -> Cell:
    method, encoder = recipe.split("_")
    run = {
        "method": method, "encoder": encoder, "protocol": "frozen", "inputs": "embedding",
        "task": "gender", "label_share": 1.0, "seed": 0,
    }  # fmt: skip
    cell = Cell(lake, key, "gender", 1.0, "frozen")
    said = Predicted("classification", np.arange(60), Y, np.stack([1 - p, p], 1))
    rows = predictions_table(as_rows(run, {"valid": said, "test": said}))
    publish_table(lake, rows, cell.predictions)
    figures = {"metric": "auc", "value": 0.5, "train_users": 9, "test_users": 9, "seconds": 0.0}
    table = pa.Table.from_pylist([run | figures | {"model_version": ""}], METRICS)
    publish_table(lake, table.replace_schema_metadata({CODE: b"code"}), cell.path)
    return cell


def measured(lake: Lake, recipe: str, trial: str, p: np.ndarray, as_of: str) -> list[Measured]:
    cell = measured_cell(lake, f"{trial}-{as_of}", recipe, p)
    named = NamedRecipe(name=recipe, recipe=Recipe.named(recipe, {}))
    return [Measured(named, "gender", 0, [cell], trial, f"/lake/sequences/{as_of}.json")]


def finish(lake: Lake, trial: str, recipe: str) -> None:
    facts = CheckpointFacts(
        recipe=Recipe.named(recipe, {}), seed=0, sizes={}, train_cutoff="2026-01-05T00:00:00+00:00",
        vocabulary_hash="v", data_fingerprint="d", labels_fingerprint="", identity=trial,
        code_version="c", created="2026-01-05T00:00:00+00:00", weights_hash="w",
    )  # fmt: skip
    publish_json(lake, facts.model_dump(mode="json"), trial_folder(lake, trial) / CONFIG)


def trained(
    lake: Lake,
    recipe: str,
    noise: float,
    vectors: np.ndarray = VECTORS,
    users: list[str] = USERS,
    as_of: str = "2026-01-05",
) -> str:
    """A version with its frozen probe on the labels of a day, and embeddings of two days."""
    trial = f"trial-{recipe}-{as_of}-{noise}-{len(users)}-{vectors.sum():.3f}"
    version = allocate(lake, recipe, trial, as_of).version
    finish(lake, trial, recipe)
    keep_measured(lake, version, measured(lake, recipe, trial, scores(noise), as_of))
    for day in (DAY - dt.timedelta(days=1), DAY):
        embed(lake, version, day, users, vectors)
    return version


def embed(lake, version: str, day: dt.date, users: list[str], vectors: np.ndarray) -> None:
    instant, count = midnight(SHOP, day), len(users)
    flat = pa.array(vectors[:count].astype(np.float32).ravel())
    late = [instant + dt.timedelta(hours=1)] * count
    columns = [pa.array(users), *clocks([instant] * count, late, late)]
    columns += [pa.FixedSizeListArray.from_arrays(flat, 8), pa.array([version] * count)]
    table = pa.Table.from_arrays(columns, schema=embeddings_schema(8))
    publish_table(lake, table, lake.day(f"user_embeddings/{version}", day))


@pytest.fixture
def lake(lake_home) -> Lake:
    """Events and features of two days, and an encoder that is served."""
    lake = Lake.of("shop")
    for day in (DAY - dt.timedelta(days=1), DAY):
        publish_behavior(lake, day, behavior_rows(SHOP, day, USERS, 1))
        publish_table(lake, pa.table({"user_id": USERS}), lake.day("events", day))
    version = trained(lake, "coles_bag", noise=0.5)
    promote_due(SHOP, lake, by="test")
    apply_registry(SHOP, lake)
    assert served(lake) == version == "coles_bag_v1"
    return lake


def served(lake: Lake, alias: str = ALIAS) -> str:
    return known_services(lake).promoted(alias).tags["model_version"]


def retrain(lake: Lake, noise: float, incumbents_noise: float = 0.5, **kwargs) -> str:
    """The next version of the recipe, and the served one measured on its day."""
    version = trained(lake, "coles_bag", noise, as_of="2026-01-08", **kwargs)
    assert unmeasured_incumbent(SHOP, lake, "2026-01-08") == "coles_bag_v1"
    first = latest_finished_trial(lake)
    again = measured(lake, "coles_bag", first, scores(incumbents_noise, 1), "2026-01-08")
    keep_measured(lake, SERVED, again)
    assert unmeasured_incumbent(SHOP, lake, "2026-01-08") == ""
    return version


def latest_finished_trial(lake: Lake) -> str:
    names = json.loads((lake.root / "versions.json").read_text())["versions"]
    return next(each["trial"] for each in names if each["version"] == "coles_bag_v1")


def faults(lake: Lake, alias: str = ALIAS) -> str:
    return "; ".join(fault for v in decide(SHOP, lake, alias).verdicts for fault in v.faults)


def test_a_better_version_takes_the_place_of_the_served_one(lake):
    version = retrain(lake, noise=0.1, incumbents_noise=3)
    request = due_serving(SHOP, lake)
    assert "coles_bag_v2 is to be promoted: it is better than coles_bag_v1: +0." in request.reason
    (decision, *_) = promote_due(SHOP, lake, by="test")
    assert decision.version == version == served(lake)
    assert decision.verdicts[0].differences["gender"].sign == "+"
    history = read_promotions(lake).of(ALIAS).history
    assert [entry.version for entry in history] == ["coles_bag_v1", "coles_bag_v2"]
    assert check_online(SHOP, lake).mismatches == []


def test_a_worse_retrain_does_not_take_its_place_and_the_decision_is_shown_once(lake):
    retrain(lake, noise=5, incumbents_noise=0.1)
    assert "against coles_bag_v1 it is -0." in faults(lake)
    assert "stays: coles_bag_v2: against" in due_serving(SHOP, lake).reason
    promote_due(SHOP, lake, by="test")
    apply_registry(SHOP, lake)
    materialize(SHOP, lake)
    assert served(lake) == "coles_bag_v1"
    assert due_serving(SHOP, lake) is None


def test_figures_of_other_days_are_not_compared(lake):
    trained(lake, "coles_bag", 0.01, as_of="2026-01-08")
    assert "coles_bag_v1 is not measured on its validation users" in faults(lake)
    assert decide(SHOP, lake, ALIAS).version is None


ONE = np.tile(VECTORS[:1], (120, 1))
FEW_DISTINCT = np.repeat(VECTORS[:12], 10, axis=0)
FLAT = np.outer(VECTORS[:, 0], VECTORS[0]) + 1e-4 * VECTORS


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ({"vectors": ONE}, "effective rank is 1, below min_effective_rank 2"),
        ({"vectors": FEW_DISTINCT}, "distinct vectors is 0.1, below min_distinct 0.5"),
        ({"vectors": FLAT}, "effective rank is 1, "),
        ({"users": USERS[:10]}, "active users with a vector is 0.0833, below min_coverage 0.95"),
        ({"vectors": VECTORS[::-1].copy()}, "neighbors in common, against chance is 1.33, below"),
        ({"vectors": np.where(VECTORS > 2, np.nan, VECTORS)}, "a vector is not finite"),
    ],
)
def test_vectors_that_nobody_could_use_are_refused_however_good_the_figures(lake, what, fault):
    version = retrain(lake, noise=0.1, incumbents_noise=3, **what)
    assert fault in faults(lake)
    assert promote_due(SHOP, lake, by="test")[0].version is None
    with pytest.raises(FootpathError, match=r"is not promoted: .*--despite"):
        promote_by_hand(SHOP, lake, version, "test")
    assert served(lake) == "coles_bag_v1"


def test_a_version_whose_newest_day_is_missing_or_whose_vectors_grow_waits(lake):
    version = retrain(lake, noise=0.1, incumbents_noise=3)
    lake.day(f"user_embeddings/{version}", DAY).unlink()
    assert f"{DAY} is not embedded" in faults(lake)
    embed(lake, version, DAY, USERS, 10 * VECTORS)
    assert "norm against the first day is 10, above max_norm_factor 4" in faults(lake)


def test_what_is_promoted_despite_the_checks_says_why(lake):
    version = retrain(lake, noise=5, incumbents_noise=0.1)
    service, verdict = promote_by_hand(SHOP, lake, version, "test", despite="a demo")
    assert verdict.reason.startswith("despite against coles_bag_v1")
    assert service == "user_representation__v2"
    entry = read_promotions(lake).of(ALIAS).history[-1]
    assert (entry.version, entry.by) == (version, "test")
    assert entry.reason.startswith("despite against coles_bag_v1")
    assert entry.reason.endswith(": a demo")


def test_a_roll_back_holds_against_the_next_run_and_is_taken_back_by_hand(lake):
    retrain(lake, noise=0.1, incumbents_noise=3)
    promote_due(SHOP, lake, by="test")
    assert roll_back(SHOP, lake, ALIAS) == "coles_bag_v1"
    for _ in range(2):
        promote_due(SHOP, lake, by="test")
        assert served(lake) == "coles_bag_v1"
    assert "it was rolled back from" in faults(lake)
    with pytest.raises(FootpathError, match="has led to no other version than coles_bag_v1"):
        roll_back(SHOP, lake, ALIAS)
    promote_by_hand(SHOP, lake, "coles_bag_v2", "test")
    assert served(lake) == "coles_bag_v2"
    assert read_promotions(lake).of(ALIAS).held == ()


def test_a_pinned_version_stays_until_the_pin_is_taken_off(lake):
    pin(SHOP, lake, "coles_bag_v1")
    version = retrain(lake, noise=0.1, incumbents_noise=3)
    assert promote_due(SHOP, lake, by="test")[0].reason == "is pinned"
    with pytest.raises(FootpathError, match="pinned to coles_bag_v1: footpath pin --off first"):
        promote_by_hand(SHOP, lake, version, "test")
    assert unpin(lake, ALIAS) == "coles_bag_v1"
    assert promote_due(SHOP, lake, by="test")[0].version == version


def test_by_hand_means_that_a_good_candidate_waits_for_a_person(lake):
    version = retrain(lake, noise=0.1, incumbents_noise=3)
    by_hand = SHOP.model_copy(
        update={"promotion": SHOP.promotion.model_copy(update={"mode": "manual"})}
    )
    assert "waits for `footpath promote coles_bag_v2`" in due_serving(by_hand, lake).reason
    (decision, *_) = promote_due(by_hand, lake, by="test")
    assert (decision.version, decision.waits) == (None, version)
    promote_by_hand(by_hand, lake, version, "test")
    assert promote_due(by_hand, lake, by="test")[0].waits is None
    assert served(lake) == version


def test_a_served_model_whose_folder_is_gone_is_told_and_anyone_may_follow_it(lake):
    shutil.rmtree(trial_folder(lake, latest_finished_trial(lake)))
    assert missing_models(lake) == ["coles_bag_v1"]
    mismatches = check_online(SHOP, lake).mismatches
    assert any("coles_bag_v1" in sentence and "is gone" in sentence for sentence in mismatches)
    version = trained(lake, "coles_bag", 0.5, as_of="2026-01-08")
    assert promote_due(SHOP, lake, by="test")[0].version == version


def task_model(lake: Lake, base: str, noise: float, as_of: str) -> str:
    """A model fine-tuned for `gender`, with published scores of all users on its as-of day."""
    found = latest_finished(lake, base)
    trial = f"tuned-{base}-{as_of}-{noise}"
    version = allocate_for_task(lake, found, "gender", trial).version
    finish(lake, trial, base)
    schema = embeddings_schema(8, scores=1)
    drawn = np.random.default_rng(1).normal(size=120)
    score = 1 / (1 + np.exp(-(np.arange(120) % 2 - 0.5) * 2 - noise * drawn))
    for day in {DAY, dt.date.fromisoformat(as_of)}:
        instant = midnight(SHOP, day)
        late = [instant + dt.timedelta(hours=1)] * 120
        flat = pa.array(VECTORS.astype(np.float32).ravel())
        columns = [pa.array(USERS), *clocks([instant] * 120, late, late)]
        columns += [pa.FixedSizeListArray.from_arrays(flat, 8), pa.array(score)]
        columns += [pa.array([version] * 120)]
        table = pa.Table.from_arrays(columns, schema=schema)
        publish_table(lake, table, lake.day(f"user_embeddings/{version}", day))
    return version


@pytest.mark.parametrize(
    ("noise", "leads_to"), [(5.0, "coles_bag_v1_gender"), (0.1, "coles_bag_v2_gender")]
)
def test_a_task_model_is_held_against_the_served_one_by_what_both_said(lake, noise, leads_to):
    first = task_model(lake, "coles_bag", 1.0, "2026-01-05")
    promote_due(SHOP, lake, by="test")
    assert served(lake, "gender") == first
    day = dt.date(2026, 1, 8)
    trained(lake, "coles_bag", 0.5, as_of=str(day))
    second = task_model(lake, "coles_bag", noise, str(day))
    shutil.copy(
        lake.day(f"user_embeddings/{first}", DAY), lake.day(f"user_embeddings/{first}", day)
    )
    labels = pa.table({
        "user_id": USERS, "task": ["gender"] * 120, "split": ["valid"] * 120,
        "value": [float(k % 2) for k in range(120)],
    })  # fmt: skip
    publish_table(lake, labels, lake.day("labels", day))
    decisions = {d.alias: d for d in promote_due(SHOP, lake, by="test")}
    assert [v.version for v in decisions["gender"].verdicts] == [second]
    assert served(lake, "gender") == leads_to
