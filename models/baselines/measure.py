"""What to beat: the majority class, linear models on the bag of a user's items, and features.

    python -m models.baselines JOB.json

JOB.json holds a contracts.recipes.jobs.BaselinesJob; with io.head_features, a linear model on the
behavior features is measured too, gradient boosting on them, and the mean of the two.

TF-IDF with logistic regression is what a practitioner would try first, and is hard to beat; its
64 main components (LSA) are the fair rival of a dense user vector. What needs no labels (the item
weights, the components) is fitted on all users, as pre-training is.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from contracts.recipes.jobs import BaselinesJob
from models.baselines.rankings import ListBaselines, NextItemBaselines
from models.data.labels import SPLITS, Task, load_tasks
from models.data.sequences import Sequences, open_sequences
from models.metrics.predictions import Predicted, Recorder
from models.metrics.rank import Ranks
from models.metrics.rows import headline, measure, metric_rows, metrics_table
from models.probing.bags import bags
from models.probing.heads import HeadFeatures, load_head_features
from models.probing.members import Matrix, Member, bag
from models.probing.profile import feature_members
from models.probing.stack import by_validation, mean_of
from models.ranking.lists import first_places, measure_lists
from models.runtime.device import prepare
from models.runtime.report import Reporter

HELD_OUT = SPLITS[1:]


@dataclass(frozen=True)
class Found:
    """What a baseline says of the validation and test examples, and the figures of the test."""

    figures: dict[str, float]
    parts: dict[str, Predicted]


Predict = Callable[[np.ndarray], Found]  # of the training examples that are given


def baselines(job: BaselinesJob, reporter: Reporter) -> dict[str, Any]:
    """Measures every baseline on every task, share and seed."""
    io, evaluation = job.io, job.evaluation
    prepare("cpu", job.runtime.threads)
    sequences = open_sequences(io.sequences)
    tasks = load_tasks(io.labels, sequences, evaluation.tasks)
    rows, recorder, done = [], Recorder(io.predictions), 0
    for task, asked in zip(tasks, evaluation.tasks, strict=True):
        methods = _methods(job, sequences, task, asked.numbers)
        for share, seed in evaluation.runs:
            kept = task.share_index(share, seed)
            for method, predict in methods.items():
                rows += _measure(method, predict, task, kept, share, seed, recorder)
            done += 1
            planned = len(tasks) * len(evaluation.runs)
            reporter.progress(done, planned, task=task.name, label_share=share)
    recorder.publish()
    publish_table(Lake(io.out.parent), metrics_table(rows), io.out)
    return {"metrics": str(io.out), "rows": len(rows), **headline(rows, tasks)}


def _methods(
    job: BaselinesJob, sequences: Sequences, task: Task, numbers: tuple[str, ...]
) -> dict[str, Predict]:
    """What goes with a task."""
    if task.lists:
        lists = ListBaselines(sequences, task, numbers)
        return {method: _by_rows(task, lists, method) for method in lists.methods}
    if task.is_ranking:
        ranking = NextItemBaselines(sequences, task)
        return {name: _by_items(task, ranking, name) for name in ranking.methods}
    found = {
        f"{name}_lr": _bag(task, x)
        for name, x in bags(sequences, task, job.evaluation.lsa_dim).items()
    }
    if job.io.head_features:
        known = load_head_features(job.io.head_features, sequences)
        found |= _on_features(task, known, job.evaluation.trees)
    return {"majority": _majority(task), **found}


def _measure(
    method: str,
    predict: Predict,
    task: Task,
    kept: np.ndarray,
    share: float,
    seed: int,
    recorder: Recorder,
) -> list[dict]:
    begun, found = time.monotonic(), predict(kept)
    common = {
        "method": method,
        "encoder": "-",
        "protocol": "baseline",
        "inputs": "features" if method.startswith("features_") else "items",
        "task": task.name,
        "label_share": share,
        "seed": seed,
        "train_users": np.count_nonzero(task.splits["train"].is_newest_n[kept]),
        "test_users": len(task.splits["test"].users_n),
        "seconds": time.monotonic() - begun,
        "model_version": None,
    }
    recorder.add(common, found.parts)
    return metric_rows(common, found.figures)


def _scored(task: Task, scores: dict[str, np.ndarray]) -> Found:
    """Measures class probabilities or numbers."""
    kind = "classification" if task.is_classification else "regression"
    parts = {
        split: Predicted(kind, task.splits[split].users_n, task.splits[split].y_n, scores[split])
        for split in HELD_OUT
    }
    return Found(measure(task, parts["test"]), parts)


def _ranked(task: Task, ranks: dict[str, Ranks]) -> dict[str, Predicted]:
    return {
        split: Predicted(
            "ranking",
            task.splits[split].users_n,
            task.splits[split].y_n,
            ranks[split].scores_n2,
        )
        for split in HELD_OUT
    }


def _by_items(task: Task, ranking: NextItemBaselines, method: str) -> Predict:
    ranks = {split: ranking.ranks(method, split) for split in HELD_OUT}  # they need no label
    parts = _ranked(task, ranks)
    found = Found(measure(task, parts["test"]), parts)
    return lambda kept: found  # noqa: ARG005


def _by_rows(task: Task, lists: ListBaselines, method: str) -> Predict:
    def predict(kept: np.ndarray) -> Found:
        scores = lists.scores(method, kept)
        ranks = {split: first_places(scores[split], task.lists[split]) for split in HELD_OUT}
        figures = measure_lists(scores["test"], task.lists["test"], task.metric)
        return Found(figures, _ranked(task, ranks))

    return predict


def _majority(task: Task) -> Predict:
    """The class shares of the training examples, or their median, for everyone."""

    def predict(kept: np.ndarray) -> Found:
        y = task.splits["train"].pick(kept).newest().y_n
        if task.is_classification:
            row = np.bincount(y, minlength=len(task.classes)) / len(y)
        else:
            row = np.array([np.median(y)])
        counts = {split: len(task.splits[split].y_n) for split in HELD_OUT}
        return _scored(task, {split: np.tile(row, (n, 1)) for split, n in counts.items()})

    return predict


def _by_validation(task: Task, members: Callable[[np.ndarray], list[Member]]) -> Predict:
    """The mean of some members, each with the choice that does best on validation."""

    def predict(kept: np.ndarray) -> Found:
        classes, train = len(task.classes), task.splits["train"].pick(kept)
        known = (train.y_n, task.splits["valid"].y_n, classes, train.weights_n)
        found = [by_validation(member, *known) for member in members(kept)]
        return _scored(task, {s: mean_of([each[s] for each in found], classes) for s in HELD_OUT})

    return predict


def _bag(task: Task, x: dict[str, Matrix]) -> Predict:
    """A linear model on rows of x."""

    def members(kept: np.ndarray) -> list[Member]:
        return [bag("bag", x | {"train": x["train"][kept]}, len(task.classes))]

    return _by_validation(task, members)


def _on_features(task: Task, known: HeadFeatures, trees: int) -> dict[str, Predict]:
    """On the behavior features alone: a linear model, trees, and their mean."""

    def members(kept: np.ndarray) -> list[Member]:
        splits = task.splits | {"train": task.splits["train"].pick(kept)}
        x = {split: known.of(part) for split, part in splits.items()}
        newest = np.flatnonzero(splits["train"].is_newest_n)
        return list(feature_members(x, newest, len(task.classes), trees))

    return {
        "features_lr": _by_validation(task, lambda kept: members(kept)[:1]),
        "features_gbm": _by_validation(task, lambda kept: members(kept)[1:]),
        "features_mean": _by_validation(task, members),
    }
