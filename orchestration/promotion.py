"""Which model versions downstream teams get, which of them leads, and by what.

Picked by the validation users: the best of several by the test users would look better on these
than it is. Their figures stay what the leaderboard shows.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow.compute as pc

from contracts.config.dataset import Dataset
from contracts.config.metrics import metric_of
from contracts.lake.copies import local_copy
from contracts.lake.layout import Lake
from contracts.lake.versions import (
    ModelVersion,
    all_versions,
    allocate_finetuned,
    latest_finetuned,
    latest_finished,
)
from models.experiments.cells import Cell, read_measured
from orchestration.experiments.store import facts_of


@dataclass(frozen=True)
class Leader:
    """A model version and why it was picked, to be read after its name."""

    version: str
    reason: str
    is_measured: bool = True

    def __str__(self) -> str:
        return f"{self.version} {self.reason}"


def leader(dataset: Dataset, lake: Lake, is_embedded: bool = True) -> Leader | None:
    """The best pre-trained version, or None where there is none.

    Best is the highest mean, over the tasks, of the frozen probe's metric with all labels on the
    validation users: a downstream team gets the vector as it is. Errors count negative. A data set
    without tasks takes its newest version.

    Args:
      dataset: whose recipes and tasks.
      lake: of the data set.
      is_embedded: versions without embeddings are no candidates.
    """
    candidates = [
        version
        for version in all_versions(lake)
        if not version.task
        and (_has_embeddings(lake, version.version) if is_embedded else version.is_finished(lake))
        and facts_of(lake, version).recipe.method.trains
    ]
    if not candidates:
        return None
    # Of each recipe the newest version that is measured: one that is not cannot be compared.
    by_recipe = {
        version.recipe: (version.version, found)
        for version in candidates
        if version.recipe in dataset.learning.recipes
        and (found := _figures(dataset, lake, version))
    }
    figures = dict(by_recipe.values())
    if not figures:
        return Leader(candidates[-1].version, "is the newest version; none is measured", False)
    # Figures of different tasks do not compare.
    common = set.intersection(*[set(found) for found in figures.values()])
    if not common:
        reason = "is the newest version; no task is measured of all versions"
        return Leader(candidates[-1].version, reason, is_measured=False)
    scores = {
        version: float(np.mean([found[task] for task in common]))
        for version, found in figures.items()
    }
    best = max(scores, key=lambda version: scores[version])
    tasks = ", ".join(task.name for task in dataset.daily_tasks if task.name in common)
    return Leader(
        best, f"leads by its validation users (frozen probe, mean over {tasks}: {scores[best]:.3f})"
    )


@dataclass(frozen=True)
class Decision:
    """What is to become of the promoted model version, and why."""

    version: str | None  # that is to be promoted; None: everything stays as it is
    reason: str  # to be read after the version's name, or the incumbent's


def decide(dataset: Dataset, lake: Lake) -> Decision:
    """Decides whether another model version than the promoted one is to be served.

    A version that nobody has measured takes no other's place.
    """
    from features.store.services import REPRESENTATION_SERVICE, known_services

    promoted = known_services(lake).promoted(REPRESENTATION_SERVICE)
    incumbent = promoted.tags["model_version"] if promoted else None
    best = leader(dataset, lake)
    if best is None:
        return Decision(None, "stays: no version has embeddings")
    if best.version == incumbent:
        return Decision(None, best.reason)
    if incumbent and not best.is_measured and dataset.daily_tasks:
        return Decision(None, f"stays: {best.version} is not measured")
    return Decision(best.version, best.reason)


def versions_to_serve(dataset: Dataset, lake: Lake) -> list[str]:
    """The finished versions by which each new or corrected day is embedded.

    They are those that may be promoted or served next: the newest of every recipe that trains, and
    the newest fine-tuned one of every task. And those that somebody reads: every one that a feature
    service names.
    """
    from features.store import served_versions

    newest = [
        latest_finished(lake, name)
        for name, recipe in dataset.recipes.items()
        if recipe.method.trains
    ]
    newest += [latest_finetuned(lake, task.name) for task in dataset.daily_tasks]
    named = served_versions(lake)
    found = [version.version for version in newest if version]
    found += [v.version for v in all_versions(lake) if v.version in named and v.is_finished(lake)]
    return list(dict.fromkeys(found))


def embedded_tasks(dataset: Dataset, lake: Lake) -> dict[str, str]:
    """By task: its fine-tuned version, where it has embeddings to serve."""
    tuned = {task.name: latest_finetuned(lake, task.name) for task in dataset.daily_tasks}
    return {
        task: version.version
        for task, version in tuned.items()
        if version and _has_embeddings(lake, version.version)
    }


def name_finetuned(dataset: Dataset, lake: Lake, task: str) -> ModelVersion | None:
    """Names the best fine-tuned model of a task, by its validation users; None where there is none.

    Candidates are the newest pre-trained version of every recipe, fine-tuned with all labels.
    """
    metric = next(each.metric for each in dataset.daily_tasks if each.name == task)
    best: tuple[float, ModelVersion, Cell] | None = None
    for recipe in dataset.learning.recipes:
        version = latest_finished(lake, recipe)
        for cell in _cells(lake, version, "finetuned") if version else []:
            if cell.task != task or not cell.keeps_model or not cell.is_done():
                continue
            value = validation_value(cell, metric)
            if version and value is not None and (best is None or value > best[0]):
                best = (value, version, cell)
    if best is None:
        return None
    _, version, cell = best
    return allocate_finetuned(lake, version, task, cell.key)


@lru_cache(maxsize=10_000)  # what a cell has measured does not change
def validation_value(cell: Cell, metric: str) -> float | None:
    """A cell's metric on the validation users, larger being better; None where it has none."""
    from models.metrics.formulas import weighted
    from models.metrics.predictions import read_predictions

    is_valid = (pc.field("split") == "valid") & (pc.field("inputs") == "embedding")
    path = local_copy(cell.lake, cell.predictions)
    for parts in read_predictions([path], is_valid).values():
        value = weighted(metric, parts["valid"])
        if value is not None:
            found = float(value(np.ones((1, len(parts["valid"].y_n))))[0])
            # One class alone among the validation users has no curve.
            return found * metric_of(metric).sign if np.isfinite(found) else None
    return None


def _figures(dataset: Dataset, lake: Lake, version: ModelVersion) -> dict[str, float]:
    """A version's frozen probe with all labels by task, where it is measured."""
    metrics = {task.name: task.metric for task in dataset.daily_tasks}
    found = {
        cell.task: validation_value(cell, metrics[cell.task])
        for cell in _cells(lake, version, "frozen")
        if cell.is_done()
    }
    return {task: value for task, value in found.items() if value is not None}


def _cells(lake: Lake, version: ModelVersion, protocol: str) -> list[Cell]:
    """A version's cells with all labels, of the first seed."""
    measured = read_measured(lake, version.version)
    first = min((each.seed for each in measured), default=0)
    found = [c for each in measured if each.seed == first for c in each.cells]
    most = max((cell.share for cell in found), default=0)
    return [cell for cell in found if cell.protocol == protocol and cell.share == most]


def _has_embeddings(lake: Lake, version: str) -> bool:
    return any(lake.table(f"user_embeddings/{version}").glob("*.parquet"))
