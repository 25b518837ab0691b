"""Which model versions might be promoted, which of them leads, and by what.

Picked by the validation users: the best of several by the test users would look better on these
than it is. Their figures stay what the leaderboard shows.
"""

from dataclasses import dataclass

import numpy as np

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.versions import (
    ModelVersion,
    all_versions,
    allocate_for_task,
    latest_finished,
    latest_of_task,
)
from models.experiments.cells import Cell
from orchestration.experiments.store import facts_of
from orchestration.promotion.judging import is_better
from orchestration.promotion.measured import EMBEDDING, PROFILE, cells_of, validation_value


@dataclass(frozen=True)
class Candidate:
    """A model version that might be promoted, and what is known of its quality."""

    version: str
    reason: str  # to be read after its name
    is_measured: bool = True

    def __str__(self) -> str:
        return f"{self.version} {self.reason}"


def leader(dataset: Dataset, lake: Lake) -> Candidate | None:
    """The best pre-trained version, embedded or not; None where there is none."""
    finished = [v for v in _pretrained(lake) if v.is_finished(lake)]
    return next(iter(_ranked(dataset, lake, finished)), None)


def candidates(dataset: Dataset, lake: Lake, alias: str) -> list[Candidate]:
    """The embedded versions that an alias might be pointed at, best first.

    Of an encoder's vector: best is the highest mean, over the tasks, of the frozen probe's metric
    with all labels on the validation users, for a downstream team gets the vector as it is. Of
    each recipe the newest measured version counts. An error counts as the share of it that the
    version saves against one constant, so that tasks of all kinds can be averaged. A data set
    without tasks takes its newest version.

    Of a task's model: the best of the newest day, be it a profile or fine-tuned.

    Args:
      dataset: whose recipes and tasks.
      lake: of the data set.
      alias: `user_representation`, or a task.
    """
    from features.store.services import REPRESENTATION_SERVICE

    if alias != REPRESENTATION_SERVICE:
        newest = task_candidate(dataset, lake, alias)
        if newest is None or not has_embeddings(lake, newest.version):
            return []
        return [Candidate(newest.version, "is the best of its day, by the validation users")]
    embedded = [v for v in _pretrained(lake) if has_embeddings(lake, v.version)]
    return _ranked(dataset, lake, embedded)


def _pretrained(lake: Lake) -> list[ModelVersion]:
    return [
        version
        for version in all_versions(lake)
        if not version.task
        and version.is_finished(lake)
        and facts_of(lake, version).recipe.method.trains
    ]


def _ranked(dataset: Dataset, lake: Lake, versions: list[ModelVersion]) -> list[Candidate]:
    # Of each recipe the newest version that is measured: one that is not cannot be compared.
    by_recipe = {
        version.recipe: (version.version, found)
        for version in versions
        if version.recipe in dataset.learning.recipes
        and (found := _figures(dataset, lake, version))
    }
    figures = dict(by_recipe.values())
    # Figures of different tasks do not compare.
    common = set.intersection(*[set(found) for found in figures.values()]) if figures else set()
    if not common:
        why = "no task is measured of all versions" if figures else "none is measured"
        return [
            Candidate(version.version, f"is the newest version; {why}", is_measured=False)
            for version in versions[-1:]
        ]
    scores = {
        version: float(np.mean([found[task] for task in common]))
        for version, found in figures.items()
    }
    tasks = ", ".join(task.name for task in dataset.daily_tasks if task.name in common)
    return [
        Candidate(
            version,
            f"leads by its validation users (frozen probe, mean over {tasks}: {score:.3f})"
            if place == 0
            else f"is number {place + 1} by its validation users ({score:.3f})",
        )
        for place, (version, score) in enumerate(sorted(scores.items(), key=lambda item: -item[1]))
    ]


def versions_to_serve(dataset: Dataset, lake: Lake) -> list[str]:
    """The finished versions by which each new or corrected day is embedded.

    They are those that may be promoted or served next: the newest of every recipe that trains, and
    the best model of every task. And those that somebody reads: every one that a feature service
    names.
    """
    from features.store import served_versions

    newest = [
        latest_finished(lake, name)
        for name, recipe in dataset.recipes.items()
        if recipe.method.trains
    ]
    newest += [task_candidate(dataset, lake, task.name) for task in dataset.daily_tasks]
    named = served_versions(lake)
    found = [version.version for version in newest if version]
    found += [v.version for v in all_versions(lake) if v.version in named and v.is_finished(lake)]
    return list(dict.fromkeys(found))


def name_task_model(dataset: Dataset, lake: Lake, task: str) -> ModelVersion | None:
    """Names the best model of a task, by its validation users; None where there is none.

    Candidates are, of the newest pre-trained version of every recipe with all labels, the profile
    and the fine-tuned model.
    """
    best = _best_of_task(dataset, lake, task)
    if best is None:
        return None
    is_profile = best.cell.protocol == "frozen"
    return allocate_for_task(lake, best.base, task, best.cell.key, is_profile)


def task_candidate(dataset: Dataset, lake: Lake, task: str) -> ModelVersion | None:
    """The named version of the best model of a task; the newest where none is measured.

    The best may have an older name than the newest: names are given while recipes are measured.
    """
    best = _best_of_task(dataset, lake, task)
    if best:
        for version in all_versions(lake):
            if (version.task, version.trial) == (task, best.cell.key) and version.is_finished(lake):
                return version
    return latest_of_task(lake, task)


@dataclass(frozen=True)
class _TaskModel:
    """A model of a task that is kept, and what it is worth on the validation users."""

    value: float
    base: ModelVersion
    cell: Cell


def _best_of_task(dataset: Dataset, lake: Lake, task: str) -> _TaskModel | None:
    """The best profile; or the best fine-tuned model, where that is better beyond luck.

    There are few validation users and many candidates: the best of these by a hair is a lucky one.
    A profile has the encoder's vector in it, beside all else that is known of a user.
    """
    metric = next(each.metric for each in dataset.daily_tasks if each.name == task)
    profile = _best_of(dataset, lake, task, metric, "frozen", PROFILE)
    tuned = _best_of(dataset, lake, task, metric, "finetuned", EMBEDDING)
    if profile and tuned:
        tuned_wins = is_better(metric, tuned.cell, profile.cell, EMBEDDING, PROFILE)
        return tuned if tuned_wins else profile
    return profile or tuned


def _best_of(
    dataset: Dataset, lake: Lake, task: str, metric: str, protocol: str, inputs: str
) -> _TaskModel | None:
    newest = [latest_finished(lake, recipe) for recipe in dataset.learning.recipes]
    found = [
        _TaskModel(value, version, cell)
        for version in newest
        if version
        for cell in cells_of(lake, version, protocol)
        if cell.task == task and cell.keeps_model and cell.is_done()
        if (value := validation_value(cell, metric, inputs)) is not None
    ]
    return max(found, key=lambda each: each.value, default=None)


def _figures(dataset: Dataset, lake: Lake, version: ModelVersion) -> dict[str, float]:
    """A version's frozen probe with all labels by task, where it is measured."""
    metrics = {task.name: task.metric for task in dataset.daily_tasks}
    found = {
        cell.task: validation_value(cell, metrics[cell.task])
        for cell in cells_of(lake, version, "frozen")
        if cell.is_done() and cell.task in metrics
    }
    return {task: value for task, value in found.items() if value is not None}


def has_embeddings(lake: Lake, version: str) -> bool:
    """Whether a version has published embeddings."""
    return any(lake.table(f"user_embeddings/{version}").glob("*.parquet"))
