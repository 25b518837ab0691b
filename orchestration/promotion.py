"""Which model version downstream teams get, and by what it leads.

Picked by the validation users: the best of several by the test users would look better on these
than it is. Their figures stay what the leaderboard shows.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from contracts.config.dataset import Dataset
from contracts.config.metrics import metric_of
from contracts.config.tasks import Task
from contracts.lake.copies import local_copy
from contracts.lake.layout import Lake
from contracts.lake.reading import read_table
from orchestration.versions import all_versions, latest_finished

VALID, TEST = "validation", "test"


@dataclass(frozen=True)
class Leader:
    """A model version and why it was picked, to be read after its name."""

    version: str
    reason: str

    def __str__(self) -> str:
        return f"{self.version} {self.reason}"


def leading_version(dataset: Dataset, lake: Lake) -> str | None:
    """Returns the best pre-trained version that has embeddings, or None."""
    found = leader(dataset, lake)
    return found.version if found else None


def leader(dataset: Dataset, lake: Lake, is_embedded: bool = True) -> Leader | None:
    """Returns the best pre-trained version, or None where there is none.

    Best is the highest mean, over the tasks, of the frozen probe's metric with all labels: a
    downstream team gets the vector as it is. Errors count negative. A data set without tasks
    takes its newest version.

    Args:
      dataset: whose recipes and tasks.
      lake: of the data set.
      is_embedded: versions without embeddings are no candidates.
    """
    candidates = [
        version.version
        for version in all_versions(lake)
        if not version.recipe.startswith("none_")
        and (_has_embeddings(lake, version.version) if is_embedded else version.is_finished(lake))
    ]
    if not candidates:
        return None
    latest = {v.version for r in dataset.learning.recipes if (v := latest_finished(lake, r))}
    figures = {v: _figures(dataset, lake, v) for v in candidates if v in latest}
    figures = {version: found for version, found in figures.items() if found[TEST]}
    if not figures:
        return Leader(candidates[-1], "is the newest version; none is measured")
    # Figures of different users do not compare: all are judged by the same ones.
    unjudged = [v for v, found in figures.items() if not found[VALID]]
    users = TEST if unjudged else VALID
    common = set.intersection(*[set(found[users]) for found in figures.values()])
    if not common:
        return Leader(candidates[-1], "is the newest version; no task is measured of all versions")
    scores = {
        version: float(np.mean([found[users][task] for task in common]))
        for version, found in figures.items()
    }
    best = max(scores, key=lambda version: scores[version])
    tasks = ", ".join(task.name for task in dataset.daily_tasks if task.name in common)
    reason = f"leads by its {users} users (frozen probe, mean over {tasks}: {scores[best]:.3f})"
    if unjudged:
        reason += (
            f"; not by validation users, whose predictions were not kept yet when "
            f"{', '.join(unjudged)} was measured: materialize its finetuned tasks again"
        )
    return Leader(best, reason)


def _has_embeddings(lake: Lake, version: str) -> bool:
    return any(lake.table(f"user_embeddings/{version}").glob("*.parquet"))


def _figures(dataset: Dataset, lake: Lake, version: str) -> dict[str, dict[str, float]]:
    """Returns a version's figures by users (validation, test) and task; more is better."""
    path = lake.single(f"metrics/{version}")
    share = max(dataset.learning.label_shares)
    is_probe = (
        (pc.field("protocol") == "frozen")
        & (pc.field("inputs") == "embedding")
        & (pc.field("label_share") == share)
    )
    found: dict[str, dict[str, float]] = {VALID: {}, TEST: {}}
    if path.exists():
        metrics = read_table(path).filter(is_probe & (pc.field("model_version") == version))
        for task in dataset.daily_tasks:
            is_of = (pc.field("task") == task.name) & (pc.field("metric") == task.metric)
            rows = metrics.filter(is_of)
            if rows.num_rows:
                found[TEST][task.name] = _signed(task, pc.mean(rows["value"]).as_py())
        found[VALID] = _validation(dataset, lake, version, is_probe)
    return found


def _validation(
    dataset: Dataset, lake: Lake, version: str, is_probe: pc.Expression
) -> dict[str, float]:
    """Measures what was predicted of the validation users, where it was kept."""
    from models.metrics.formulas import weighted
    from models.metrics.predictions import RUN, read_predictions

    path = lake.single(f"predictions/{version}")
    if not path.exists():
        return {}
    is_valid = is_probe & (pc.field("split") == "valid")
    values: dict[str, list[float]] = {}
    metrics = {task.name: task.metric for task in dataset.daily_tasks}
    for run, parts in read_predictions([local_copy(lake, path)], is_valid).items():
        task, said = run[RUN.index("task")], parts["valid"]
        value = weighted(metrics[task], said) if task in metrics else None
        if value is not None:
            values.setdefault(task, []).append(float(value(np.ones((1, len(said.y_n))))[0]))
    return {
        task.name: _signed(task, float(np.mean(values[task.name])))
        for task in dataset.daily_tasks
        # One class alone among the validation users has no curve.
        if task.name in values and np.isfinite(values[task.name]).all()
    }


def _signed(task: Task, value: float) -> float:
    return metric_of(task.metric).sign * value
