"""Recipes and jobs: resolved, checked, told by their places, and identified by their content."""

import json
import subprocess
import sys
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from contracts.base.errors import FootpathError
from contracts.base.schema import faults
from contracts.config.dataset import load_dataset_file
from contracts.recipes.encoders import ENCODERS
from contracts.recipes.jobs import (
    BaselinesJob,
    EmbedJob,
    EvaluationJob,
    TrainJob,
    load_job,
    training_identity,
)
from contracts.recipes.methods import METHODS
from contracts.recipes.recipe import Recipe
from tests.conftest import REPOSITORY

IO = {"sequences": "s.json", "out": "models/m_v1"}
LABELED = {"sequences": "s.json", "labels": "l.parquet", "out": "m.parquet"}
TASK = {"name": "age", "kind": "regression", "metric": "mae"}


def faults_of(kind: Any, values: dict) -> dict[str, str]:
    with pytest.raises(ValidationError) as error:
        kind.model_validate(values)
    return {".".join(map(str, place)): text for place, text in faults(error.value)}


def test_method_and_encoder_follow_from_the_name_where_they_are_left_out():
    recipe = Recipe.named("ptum_bert4rec", {"method": {"negatives": 8}})
    assert recipe.name == "ptum_bert4rec"
    assert recipe.method.negatives == 8
    assert Recipe.named("byb far_bag", {"method": "byb"}).name == "byb_bag"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_recipe_comes_back_from_json_as_it_was(method, encoder):
    if METHODS[method].reads_forwards:
        encoder = "gru4rec"  # most others see what comes next
    settings = {"method": method, "encoder": encoder, "fields": ["item", "text"], "dim": 32}
    recipe = Recipe.model_validate(settings)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert json.loads(recipe.model_dump_json())["method"]["name"] == method


@pytest.mark.parametrize(
    ("change", "place", "text"),
    [
        ({"dims": 64}, "dims", "there is no such field"),
        ({"dim": "many"}, "dim", "valid integer"),
        ({"dim": 64.5}, "dim", "valid integer"),
        ({"epochs": -1}, "epochs", "greater than or equal to 0"),
        ({"lr": float("nan")}, "lr", "finite number"),
        ({"lr": 0}, "lr", "greater than 0"),
        ({"warmup": 2}, "warmup", "less than or equal to 1"),
        ({"fields": "item"}, "fields", "valid tuple"),
        ({"fields": ["item", "color"]}, "fields.1", "'item', 'action'"),
        ({"fields": ["gap", "position"]}, "", "expected 'item', 'text' or both"),
        ({"bag_epochs": 20}, "", "leave some to the encoder"),
        ({"bag_epochs": 2, "max_seconds": 5.0}, "", "give one of them"),
        ({"method": []}, "method", "valid dictionary"),
        ({"method": "lstm"}, "method", "there is no method 'lstm'"),
        ({"method": {"negatives": 4}}, "method", "the method has no name"),
        ({"method": {"name": "ptum", "negative": 4}}, "method.negative", "there is no such field"),
        ({"method": {"name": "ptum", "next_events": -1}}, "method.next_events", "or equal to 0"),
        ({"method": {"name": "ptum", "next_events": 1.5}}, "method.next_events", "valid integer"),
        ({"method": {"name": "ptum", "hide_share": 1.0}}, "method.hide_share", "less than 1"),
        (
            {"method": {"name": "ptum", "masked_weight": 0, "next_weight": 0}},
            "method",
            "both tasks are left out",
        ),
        ({"method": {"name": "byb", "events": []}}, "method", "give a window"),
        ({"method": {"name": "byb", "days": [-1.0]}}, "method.days.0", "greater than 0"),
        ({"method": {"name": "byb", "momentum": 2.0}}, "method.momentum", "equal to 1"),
        ({"method": {"name": "byb", "loss": "mse"}}, "method.loss", "'byol' or 'dino'"),
        ({"method": {"name": "byb", "cut": "place"}}, "method.cut", "'event' or 'time'"),
        ({"method": {"name": "byb", "empty_share": 1.0}}, "method.empty_share", "less than 1"),
        ({"method": {"name": "coles", "temperature": 0.0}}, "method.temperature", "than 0"),
        ({"method": {"name": "coles", "shortest": 0}}, "method.shortest", "equal to 1"),
        ({"method": {"name": "coles", "hidden_weight": 1.0}}, "method", "hide_share above 0"),
        ({"method": {"name": "barlow", "hide_share": 1.0}}, "method.hide_share", "less than 1"),
        ({"method": {"name": "barlow", "redundancy": 0.0}}, "method.redundancy", "than 0"),
        ({"method": {"name": "masked", "hide_share": 0.0}}, "method.hide_share", "than 0"),
        ({"method": {"name": "dual", "temperature": 0.0}}, "method.temperature", "than 0"),
        ({"method": {"name": "msdp", "events": []}}, "method.events", "at least 1 item"),
        ({"method": {"name": "next", "chunk": -1}}, "method.chunk", "equal to 0"),
        ({"method": {"name": "next", "temperature": -0.1}}, "method.temperature", "equal to 0"),
        ({"method": {"name": "next", "windows": "first"}}, "method.windows", "'random' or 'last'"),
        ({"method": {"name": "ubm", "temperature": 0.0}}, "method.temperature", "than 0"),
        ({"method": {"name": "ubm", "word_drop": 0.6, "word_mask": 0.5}}, "method", "no word"),
        ({"method": {"name": "ubm", "attribute_drop": 1.0}}, "method.attribute_drop", "than 1"),
        ({"method": {"name": "ubm", "first_share": 1.5}}, "method.first_share", "equal to 1"),
        ({"method": {"name": "ubm", "sessions": 0}}, "method.sessions", "equal to 1"),
        ({"method": {"name": "ubm", "pair_weight": -1.0}}, "method.pair_weight", "equal to 0"),
        (
            {"method": {"name": "ubm", "follow_weight": 0.0, "session_weight": 0.0}},
            "method",
            "leave nothing of the second stage",
        ),
        ({"method": "ubm"}, "", "fields leave 'text' out"),
        ({"encoder": "lstm"}, "encoder", "there is no encoder 'lstm'"),
        ({"encoder": {"name": "bert4rec", "layer": 3}}, "encoder.layer", "there is no such field"),
        ({"encoder": {"name": "gru4rec", "dropout": 1.5}}, "encoder.dropout", "less than 1"),
        ({"encoder": {"name": "gru4rec", "attention": 0}}, "encoder.attention", "equal to 1"),
        ({"encoder": {"name": "gru4rec", "pooling": "max"}}, "encoder.pooling", "'attention'"),
        ({"encoder": {"name": "han", "cell": "rnn"}}, "encoder.cell", "'gru' or 'lstm'"),
        ({"encoder": {"name": "hura", "window": 0}}, "encoder.window", "equal to 1"),
        ({"dim": 15}, "", "does not divide among 2 heads"),
        ({"encoder": {"name": "hsa", "heads": 3}}, "", "does not divide among 3 heads"),
        ({"encoder": "han", "dim": 15}, "", "does not divide among two directions"),
        ({"encoder": "rotary", "dim": 6}, "", "2 heads of even width"),
        ({"encoder": {"name": "hstu", "heads": 3}}, "", "does not divide among 3 heads"),
        ({"encoder": {"name": "hstu", "layers": 0}}, "encoder.layers", "equal to 1"),
        (
            {"encoder": {"name": "hstu", "query_time": True, "time": False}},
            "encoder",
            "leave time at true",
        ),
        (
            {"method": "future", "encoder": {"name": "hstu", "query_time": True}, "summary": True},
            "",
            "query_time tells when the next event comes",
        ),
        ({"text": {"encoder": "cnn"}}, "", "fields leave 'text' out"),
        ({"fields": ["text"], "text": {"encoder": "bert"}}, "text.encoder", "'mean', 'cnn'"),
        ({"fields": ["text"], "text": {"dropout": 1.0}}, "text.dropout", "less than 1"),
        (
            {"fields": ["text"], "text": {"encoder": "transformer", "heads": 3}},
            "",
            "text encoder transformer: dim 64 does not divide among 3 heads",
        ),
        (
            {"fields": ["text"], "text": {"encoder": "gru", "width": 7}},
            "",
            "text encoder gru: dim 7 does not divide among two directions",
        ),
    ],
)
def test_every_slip_is_told_by_its_place_in_the_yaml(change, place, text):
    found = faults_of(Recipe, {"method": "ptum", "encoder": "bert4rec"} | change)
    assert list(found) == [place]
    assert text in found[place]


def test_a_slip_of_a_data_set_is_told_by_file_line_and_field(tmp_path):
    text = (REPOSITORY / "datasets" / "shop.yaml").read_text()
    broken = text.replace("  settings:\n", "  settings:\n    ptum_bert4rec: {method: {negs: 4}}\n")
    if broken == text or "ptum_bert4rec:" in text:
        broken = text.replace("    ptum_bert4rec: {", "    ptum_bert4rec: {method: {negs: 4}, ")
    assert broken != text
    path = tmp_path / "shop.yaml"
    path.write_text(broken)
    line = broken[: broken.index("negs")].count("\n") + 1
    with pytest.raises(FootpathError) as fault:
        load_dataset_file(path)
    where = f"{path}:{line}: learning.settings.ptum_bert4rec.method.negs: "
    assert str(fault.value).startswith(where)


@pytest.mark.parametrize(
    "path", sorted(REPOSITORY.glob("benchmarks/compare/*.yaml")), ids=lambda p: p.stem
)
def test_the_recipes_of_the_benchmarks_resolve(path):
    told = yaml.safe_load(path.read_text())
    recipes = told.get("recipes", {})
    recipes |= {f"{m}_{e}": {} for m in told.get("methods", []) for e in told.get("encoders", [])}
    assert recipes
    for name, settings in recipes.items():
        resolved = Recipe.named(name, told.get("common", {}) | (settings or {}))
        assert name.endswith(f"_{resolved.encoder.name}")


@pytest.mark.parametrize(("encoder", "forwards"), [("bag", False), ("gru4rec", True)])
def test_next_item_needs_an_encoder_that_reads_forwards(encoder, forwards):
    settings = {"method": "next", "encoder": encoder}
    if forwards:
        Recipe.model_validate(settings)
        return
    assert "reads forwards, and bag sees the next" in faults_of(Recipe, settings)[""]


def test_next_item_takes_a_transformer_that_looks_back_alone():
    settings = {"method": "next", "encoder": {"name": "rotary", "causal": True}}
    Recipe.model_validate(settings)
    assert "reads forwards" in faults_of(Recipe, settings | {"encoder": "rotary"})[""]


@pytest.mark.parametrize("method", ["next", {"name": "ubm", "first_share": 0}])
def test_what_predicts_after_every_event_refuses_ages(method):
    settings = {"method": method, "encoder": "gru4rec", "fields": ["item", "age"]}
    assert "leave 'age' out of fields" in faults_of(Recipe, settings)[""]


def test_ubm_needs_no_text_without_its_first_stage_and_no_ages_rule_without_its_second():
    Recipe.model_validate({"method": {"name": "ubm", "first_share": 0}, "encoder": "bag"})
    settings = {"method": {"name": "ubm", "follow_weight": 0}, "encoder": "gru4rec"}
    Recipe.model_validate(settings | {"fields": ["item", "age", "text"]})


def identity(name: str, seed: int = 0, data: str = "d", labels: str = "", **settings: Any) -> str:
    return training_identity(Recipe.named(name, settings), seed, data, labels)


def test_the_identity_of_a_training_knows_recipe_seed_and_content_and_nothing_else():
    job = {"recipe": {"method": "ptum", "encoder": "bag"}, "io": IO}
    other = job | {
        "io": {"sequences": "/elsewhere/s.json", "out": "m_v2", "labels": "/elsewhere/l.parquet"},
        "runtime": {"device": "cuda", "threads": 7, "prefetch": 0, "checkpoint_seconds": 1},
    }
    one, two = (TrainJob.model_validate(values) for values in (job, other))
    assert one.recipe.identity() == two.recipe.identity()
    resolved = Recipe.named("ptum_bag", one.recipe.model_dump())
    assert training_identity(one.recipe, one.seed, "d") == training_identity(resolved, 0, "d")
    changed = [
        identity("ptum_bag", seed=1),
        identity("ptum_bag", data="e"),
        identity("ptum_gru4rec"),
        identity("manymask_bag"),
        identity("ptum_bag", lr=0.5),
        identity("ptum_bag", method={"negatives": 5}),
        identity("ptum_bag", encoder={"dropout": 0.0}),
        identity("ptum_bag", validation={"task": "age"}),
    ]
    assert len({identity("ptum_bag"), *changed}) == len(changed) + 1


def test_labels_are_of_the_identity_where_they_stop_training():
    assert identity("ptum_bag", labels="l") == identity("ptum_bag")
    stopped = {"validation": {"task": "age"}}
    assert identity("ptum_bag", labels="l", **stopped) != identity("ptum_bag", **stopped)
    assert identity("none_bag", labels="l", **stopped) == identity("none_bag", **stopped)


def test_a_changed_default_is_another_model():
    class Faster(Recipe):
        lr: float = 2e-3

    settings = {"method": "ptum", "encoder": "bag"}
    one, other = (kind.model_validate(settings) for kind in (Recipe, Faster))
    assert training_identity(one, 0, "d") != training_identity(other, 0, "d")
    resolved = Recipe.model_validate(settings | {"lr": 2e-3})
    assert training_identity(resolved, 0, "d") == training_identity(other, 0, "d")
    for name, field in Recipe.model_fields.items():
        assert name in one.identity(), field


def test_random_weights_of_one_shape_are_one_model_whatever_else_is_asked_for():
    one = identity("none_bag")
    assert identity("none_bag", epochs=3, lr=0.5, batch_size=7, precision="bf16") == one
    assert identity("none_bag", dim=32) != one
    assert identity("none_bag", fields=["item"]) != one
    assert identity("none_bag", seed=1) != one
    assert identity("ptum_bag") != one


def test_a_recipe_that_stops_early_needs_labels():
    job = {"recipe": {"method": "ptum", "encoder": "bag", "validation": {"task": "age"}}, "io": IO}
    assert "give io.labels" in faults_of(TrainJob, job)[""]
    TrainJob.model_validate(job | {"io": IO | {"labels": "l.parquet"}})


@pytest.mark.parametrize(
    ("kind", "values", "place", "text"),
    [
        (TrainJob, {"io": IO}, "recipe", "Field required"),
        (TrainJob, {"recipe": {"encoder": "bag"}, "io": IO}, "recipe.method", "Field required"),
        (EvaluationJob, {"evaluation": {"tasks": [{}]}}, "evaluation.tasks.0.name", "required"),
        (
            EvaluationJob,
            {"evaluation": {"tasks": [TASK | {"kind": "rank"}]}},
            "evaluation.tasks.0.kind",
            "'classification', 'regression'",
        ),
        (EvaluationJob, {"evaluation": {"tasks": []}}, "evaluation.tasks", "at least 1"),
        (
            EvaluationJob,
            {"evaluation": {"tasks": [TASK], "label_shares": [1.5]}},
            "evaluation.label_shares.0",
            "less than or equal to 1",
        ),
        (BaselinesJob, {"evaluation": {"tasks": [TASK], "lsa_dim": 1}}, "evaluation.lsa_dim", "2"),
        (EmbedJob, {"models": [{"model_version": 5}]}, "models.0.model_version", "valid string"),
    ],
)
def test_a_wrong_job_is_told_by_file_and_field(tmp_path, kind, values, place, text):
    path = tmp_path / "job.json"
    path.write_text(json.dumps(values))
    with pytest.raises(FootpathError) as fault:
        load_job(kind, path)
    told = [line for line in str(fault.value).splitlines() if line.startswith(f"{path}: {place}: ")]
    assert len(told) == 1
    assert text in told[0]


def test_files_that_are_no_job_are_sentences(tmp_path):
    path = tmp_path / "job.json"
    with pytest.raises(FootpathError, match=r"job\.json cannot be read"):
        load_job(TrainJob, path)
    path.write_text("{")
    with pytest.raises(FootpathError, match=r"job\.json is not valid JSON"):
        load_job(TrainJob, path)
    path.write_text("[]")
    with pytest.raises(FootpathError, match=r"job\.json: Input should be"):
        load_job(TrainJob, path)


def test_recipes_and_jobs_need_no_torch():
    code = (
        "import sys, contracts.recipes.checkpoint, contracts.config.dataset\n"
        "assert not {'torch', 'models', 'sklearn', 'dagster'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_the_classes_of_models_are_those_that_have_options():
    from models.nn.encoders import ENCODERS as BUILT
    from models.objectives import OBJECTIVES

    assert OBJECTIVES.keys() == METHODS.keys()
    assert BUILT.keys() == ENCODERS.keys()
    assert all(kind.model_fields["name"].default == name for name, kind in METHODS.items())
    assert all(kind.model_fields["name"].default == name for name, kind in ENCODERS.items())
