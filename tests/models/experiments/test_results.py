"""What the finished cells of a comparison say: tables, sentences, marks."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.config.tasks import Task
from contracts.lake.layout import Lake
from contracts.lake.schemas import METRICS
from models.data.labels import Task as Labels
from models.experiments.cells import publish_cells
from models.experiments.pictures import batch_curves
from models.experiments.planning import Plan, Source
from models.experiments.results import Results, collect, markdown, summary, write
from models.metrics.predictions import Predicted, as_rows, predictions_table
from models.metrics.rows import measure, metric_rows, metrics_table
from tests.models.experiments.planted import comparison, planner, recipe, write_source

AGE = Task(name="age", column="age_band", metric="accuracy")
THREE = Labels("age", "accuracy", ["a", "b", "c"], {})
USERS = 60  # of each seed
STRENGTHS = {"majority": 0.0, "tfidf_lr": 1.0, "none": 0.0, "coles": 4.0}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    return write_source(tmp_path_factory.mktemp("planted"))


def predicted(seed: int, users: np.ndarray, method: str) -> Predicted:
    """Of three classes, the first of which has two thirds of the users."""
    y = np.where(users % 3 < 2, 0, 1 + users % 2)
    strength, rng = STRENGTHS[method], np.random.default_rng([seed, len(method)])
    logits = rng.normal(size=(len(users), 3)) * (strength > 0) + [1.0, 0.0, 0.0]
    logits[np.arange(len(users)), y] += strength
    scores = np.exp(logits)
    return Predicted("classification", users, y.astype(float), scores / scores.sum(1)[:, None])


def measured(plan: Plan, folder: Path, apart: bool) -> None:
    """Publishes the cells of a plan as its programs would; users are those of a seed if apart."""
    for job in plan.jobs:
        named = {cell: each for each in plan.measured for cell in each.cells}
        for cell in job.cells:
            who = named[cell].recipe
            seed = named[cell].seed
            methods = [who.label] if who else ["majority", "tfidf_lr"]
            rows, predictions = [], []
            for method in methods:
                users = np.arange(USERS) + USERS * seed * apart
                found = predicted(seed, users, method)
                run = {"method": method, "encoder": "bag" if who else "-", "task": "age",
                       "protocol": cell.protocol, "inputs": "embedding" if who else "items",
                       "label_share": cell.share, "seed": seed, "train_users": 40,
                       "test_users": USERS, "seconds": 0.0, "model_version": None}  # fmt: skip
                rows += metric_rows(run, measure(THREE, found))
                predictions += as_rows(run, {"valid": found, "test": found})
            pq.write_table(metrics_table(rows), folder / "metrics.parquet")
            pq.write_table(predictions_table(predictions), folder / "predictions.parquet")
            publish_cells([cell], folder, job.work)


def results_of(lake: Lake, source: Source, folder: Path, **changes) -> tuple[Results, Plan]:
    common = {"tasks": ("age",), "shares": (1.0,)}
    wanted = comparison(recipe("coles_bag"), recipe("none_bag"), **common | changes)
    plan = planner(lake, source, wanted, AGE).plan()
    measured(plan, folder, apart=wanted.folds > 0)
    return collect(plan, wanted), plan


def test_a_comparison_by_folds_shows_both_metrics_and_pools_the_users_of_all_folds(
    source, tmp_path
):
    lake = Lake(tmp_path / "lake")
    results, plan = results_of(lake, source, tmp_path, seeds=(0, 1, 2), folds=3)
    assert results.noise["age"].users == 3 * USERS
    wanted = comparison(recipe("coles_bag"), recipe("none_bag"), seeds=(0, 1, 2), folds=3)
    text = markdown(results, wanted)
    assert "3 folds: each user is a test user of one fold; a fold is a seed" in text
    assert "### age (accuracy, auc beside it, 60 test users per seed)" in text
    row = next(
        line for line in text.splitlines() if line.startswith("| none | bag | frozen | embedding |")
    )
    # The commonest class of everybody: right two times of three, and in an order of nobody.
    assert row.endswith("| 0.667 ± 0.000 | 0.500 ± 0.000 T- |")
    coles = next(
        line
        for line in text.splitlines()
        if line.startswith("| coles | bag | frozen | embedding |")
    )
    assert coles.count("R+ T+") == 2
    paths = write(results, plan, wanted, lake, lake.root / "comparisons" / "board")
    assert results.remarks["age"] in text
    assert f"<p>{results.remarks['age']}</p>" in paths["html"].read_text()
    (best, *_) = summary(results)
    assert best.startswith("age: coles bag frozen embedding, accuracy ")
    assert re.search(r", auc (1\.000|0\.9\d\d) ± 0\.\d+ R\+ T\+ at 100% labels$", best)


def test_too_few_test_users_are_told_on_the_page_and_on_the_terminal(source, tmp_path, monkeypatch):
    for name in STRENGTHS:
        monkeypatch.setitem(STRENGTHS, name, 1.0)  # rows that chance alone sets apart
    results, _ = results_of(Lake(tmp_path / "lake"), source, tmp_path)
    noise = results.noise["age"]
    assert noise.is_too_few
    assert noise.users == USERS
    assert summary(results)[1] == f"age: {noise.sentence()}"
    assert noise.sentence().startswith("Too few test users: of 60, differences below ")
    assert "--folds 5" in noise.sentence()
    assert noise.sentence() in results.remarks["age"]


def test_curves_of_batch_sizes_are_named_by_task_and_metric():
    common = dict.fromkeys(METRICS.names, 0) | {"model_version": None, "task": "age", "seed": 0}
    common |= {"encoder": "bag", "protocol": "frozen", "inputs": "embedding", "metric": "auc"}
    rows = [
        common | {"method": f"coles b{size}", "label_share": 1.0, "value": size / 100}
        for size in (16, 64)
    ]
    found = batch_curves(pa.Table.from_pylist(rows, schema=METRICS))
    sizes = found["age, auc, 100% labels"]["coles bag frozen"]
    assert {size: cell.mean for size, cell in sizes.items()} == {16: 0.16, 64: 0.64}
