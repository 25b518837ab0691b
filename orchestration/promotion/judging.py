"""Is a candidate better than what is served now? Both on the same validation users, user by user.

In:  two model versions. Out: by task, the difference with a 95% interval of a paired bootstrap over
the users, positive where the candidate is better. An encoder is judged by the frozen probe with all
labels; the served one is measured on the labels of the candidate's day as well (`task_baselines`).
A task's model is judged by the predictions that were published for the users of that day.
"""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from contracts.config.dataset import Dataset
from contracts.config.metrics import metric_of
from contracts.config.tasks import Task
from contracts.lake.copies import local_copy
from contracts.lake.layout import Lake
from contracts.lake.reading import read_schema, read_table
from contracts.lake.versions import ModelVersion, version_named
from models.experiments.cells import Cell, Measured, read_measured
from orchestration.promotion.measured import constant_error, validation_predictions

if TYPE_CHECKING:
    from models.leaderboard.significance import Difference
    from models.metrics.predictions import Predicted

SERVED = "served"  # measurements of the served version on the labels of newer days
MEAN = "mean"  # over tasks


def differences(
    dataset: Dataset, lake: Lake, candidate: str, incumbent: str
) -> "dict[str, Difference]":
    """By task, how much better a candidate is; and their mean, where there are several tasks.

    Errors count as shares of the error of the best constant. Empty where the two were not measured
    on the same users.
    """
    ours, theirs = version_named(lake, candidate), version_named(lake, incumbent)
    draws = {}
    for task in dataset.daily_tasks:
        if ours.task and ours.task != task.name:
            continue
        pair = _scored_pair if ours.task else _probed_pair
        if (both := pair(lake, task, ours, theirs)) and (
            found := _draws(task.metric, *both)
        ) is not None:
            draws[task.name] = found
    if len(draws) > 1:
        draws[MEAN] = np.mean(list(draws.values()), axis=0)
    return {name: _difference(found) for name, found in draws.items()}


@lru_cache(maxsize=10_000)  # what cells have measured does not change
def is_better(metric: str, ours: Cell, theirs: Cell, inputs: str, other_inputs: str) -> bool:
    """Whether one head is better than another on the same validation users, beyond luck.

    Args:
      metric: of their task.
      ours: cell of the one.
      theirs: cell of the other.
      inputs: of the one's head, as METRICS names them.
      other_inputs: of the other's.
    """
    a = validation_predictions(ours, inputs)
    b = validation_predictions(theirs, other_inputs)
    if not (a and b and _same_users(a, b)) or (draws := _draws(metric, a, b)) is None:
        return False
    return _difference(draws).sign == "+"


def is_measured_as_of(lake: Lake, version: ModelVersion, as_of: str) -> bool:
    """Whether a version was measured on the labels of a day."""
    return any(_as_of(each) == as_of for each in _of_version(lake, version))


def _difference(draws_R: np.ndarray) -> "Difference":
    from models.leaderboard.significance import BY_USERS, LEVEL, Difference

    low, high = np.nanquantile(draws_R[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Difference(float(draws_R[0]), float(low), float(high), BY_USERS)


def _draws(metric: str, ours: "Predicted", theirs: "Predicted") -> np.ndarray | None:
    """The difference of two models on the users as they are, and on draws of them; [1 + R]."""
    from models.leaderboard.bootstrap import Bootstrap

    total_R = Bootstrap().differences(metric, [(ours, theirs)])
    if total_R is None or not np.isfinite(total_R[0]):
        return None
    known = metric_of(metric)
    scale = 1.0 if known.larger_is_better else constant_error(metric, ours) or 1.0
    return total_R * known.sign / scale


def _probed_pair(
    lake: Lake, task: Task, ours: ModelVersion, theirs: ModelVersion
) -> "tuple[Predicted, Predicted] | None":
    """What the frozen probes of both say of the same validation users."""
    mine = _probes(lake, task.name, ours)
    others = _probes(lake, task.name, theirs)
    for key in sorted(mine.keys() & others.keys(), reverse=True):  # the newest day first
        a, b = validation_predictions(mine[key]), validation_predictions(others[key])
        if a and b and _same_users(a, b):
            return a, b
    return None


def _probes(lake: Lake, task: str, version: ModelVersion) -> dict[tuple[str, float], Cell]:
    """By as-of day and label share: the cell of a version's frozen probe, of the first seed."""
    measured = [each for each in _of_version(lake, version) if each.task == task]
    measured.sort(key=lambda each: -each.seed)
    return {
        (_as_of(each), cell.share): cell
        for each in measured
        for cell in each.cells
        if cell.protocol == "frozen" and cell.is_done()
    }


def _of_version(lake: Lake, version: ModelVersion) -> list[Measured]:
    again = [e for e in read_measured(lake, SERVED) if e.trial == version.trial]
    return read_measured(lake, version.version) + again


def _as_of(measured: Measured) -> str:
    return Path(measured.sequences).stem.split("__")[0]


def _same_users(ours: "Predicted", theirs: "Predicted") -> bool:
    return np.array_equal(ours.users_n, theirs.users_n) and np.array_equal(ours.y_n, theirs.y_n)


def _scored_pair(
    lake: Lake, task: Task, ours: ModelVersion, theirs: ModelVersion
) -> "tuple[Predicted, Predicted] | None":
    """What two task models have published of the validation users of the newer one's day."""
    labels = lake.root / "labels" / f"{ours.as_of}.parquet"
    paths = [_published(lake, version, ours.as_of) for version in (ours, theirs)]
    if not all(path.exists() for path in (labels, *paths)):
        return None
    found = [_scores(local_copy(lake, path)) for path in paths]
    is_valid = (pc.field("task") == task.name) & (pc.field("split") == "valid")
    rows = read_table(local_copy(lake, labels)).filter(is_valid)
    value = dict(zip(rows["user_id"].to_pylist(), rows["value"].to_pylist(), strict=True))
    users = sorted(value.keys() & found[0].keys() & found[1].keys())
    if not users or len({len(scores[user]) for scores in found for user in users}) > 1:
        return None  # or the classes are others by now
    y_n = np.array([value[user] for user in users])
    a, b = (_predicted(task, y_n, np.array([scores[u] for u in users])) for scores in found)
    return a, b


def _published(lake: Lake, version: ModelVersion, as_of: str) -> Path:
    return lake.table(f"user_embeddings/{version.version}") / f"{as_of}.parquet"


def _scores(path: Path) -> dict[str, list[float]]:
    """By user, the newest published prediction."""
    name = "scores" if "scores" in read_schema(path).names else "score"
    rows = read_table(path, columns=["user_id", "created", "written_at", name])
    rows = rows.sort_by([("created", "ascending"), ("written_at", "ascending")])
    return {
        user: said if isinstance(said, list) else [said]
        for user, said in zip(rows["user_id"].to_pylist(), rows[name].to_pylist(), strict=True)
        if said is not None
    }


def _predicted(task: Task, y_n: np.ndarray, scores_nC: np.ndarray) -> "Predicted":
    from models.metrics.predictions import Predicted

    if task.kind == "classification" and scores_nC.shape[1] == 1:
        scores_nC = np.hstack([1 - scores_nC, scores_nC])
    kind = "classification" if task.kind == "classification" else "regression"
    return Predicted(kind, np.arange(len(y_n)), y_n, scores_nC)
