"""What a prediction is worth: the figures that METRICS rows hold."""

from typing import Any

import numpy as np
import pyarrow as pa
from sklearn import metrics as sk

from contracts.base.errors import FootpathError
from contracts.lake.schemas import METRICS
from models.data.labels import Task


def measure(task: Task, y_n: np.ndarray, scores_nC: np.ndarray) -> dict[str, float]:
    """Measures test predictions; the task's own metric comes first.

    Args:
      task: says what the scores are of.
      y_n: class indices, or numbers.
      scores_nC: class probabilities, or the predicted numbers as one column.

    Returns:
      Classes: accuracy, macro_f1 and auc (of two classes; of more, the mean of one against the
      rest); of two classes also ap (average precision) and ks (Kolmogorov-Smirnov, the largest
      true-positive minus false-positive rate). Numbers: mae and rmse.

    Raises:
      FootpathError: the task's metric is of two classes, and there are more.
    """
    if task.is_classification:
        found = _classification(y_n, scores_nC)
    else:
        error = scores_nC[:, 0] - y_n
        found = {"mae": np.abs(error).mean(), "rmse": np.sqrt(np.square(error).mean())}
    if task.metric not in found:
        raise FootpathError(
            f"task '{task.name}' has no {task.metric}, which is of two classes, for it has "
            f"{len(task.classes)}: take {', '.join(found)}"
        )
    first = {task.metric: found.pop(task.metric)}
    return {name: float(value) for name, value in (first | found).items()}


def _classification(y_n: np.ndarray, probabilities_nC: np.ndarray) -> dict[str, float]:
    predicted = probabilities_nC.argmax(axis=1)
    found = {
        "accuracy": sk.accuracy_score(y_n, predicted),
        "macro_f1": sk.f1_score(y_n, predicted, average="macro", zero_division=0),
    }
    if probabilities_nC.shape[1] == 2:
        positive = probabilities_nC[:, 1]
        false_rate, true_rate, _ = sk.roc_curve(y_n, positive)
        return found | {
            "auc": sk.roc_auc_score(y_n, positive),
            "ap": sk.average_precision_score(y_n, positive),
            "ks": (true_rate - false_rate).max(),
        }
    present = np.unique(y_n)  # a class without a test user has no curve
    curves = [sk.roc_auc_score(y_n == c, probabilities_nC[:, c]) for c in present]
    return found | {"auc": float(np.mean(curves))}


def metric_rows(columns: dict[str, Any], figures: dict[str, float]) -> list[dict]:
    """Returns METRICS rows of one measurement: its columns with each of its figures."""
    return [{**columns, "metric": name, "value": value} for name, value in figures.items()]


def metrics_table(rows: list[dict]) -> pa.Table:
    """Returns METRICS rows as a table of that schema."""
    return pa.Table.from_pylist(rows, schema=METRICS)


def headline(rows: list[dict], tasks: list[Task]) -> dict[str, float]:
    """Returns each task's own metric at the largest label share, averaged over seeds.

    Keys say "<task>/<protocol>_<metric>", with the method where there are several.
    """
    share = max((row["label_share"] for row in rows), default=0.0)
    several = len({row["method"] for row in rows}) > 1
    values: dict[str, list[float]] = {}
    for task in tasks:
        for row in rows:
            wanted = (row["task"], row["metric"], row["label_share"])
            if wanted == (task.name, task.metric, share):
                who = row["method"] if several else row["protocol"]
                values.setdefault(f"{task.name}/{who}_{task.metric}", []).append(row["value"])
    return {key: float(np.mean(found)) for key, found in values.items()}
