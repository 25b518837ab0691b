"""Measures predictions, and keeps the figures as METRICS rows."""

from typing import Any

import numpy as np
import pyarrow as pa

from contracts.base.errors import FootpathError
from contracts.config.metrics import metrics_of
from contracts.lake.schemas import METRICS
from models.data.labels import Task
from models.metrics.formulas import FORMULAS
from models.metrics.predictions import Predicted


def measure(task: Task, found: Predicted) -> dict[str, float]:
    """Measures predictions by all metrics of their kind; the task's own comes first.

    Raises:
      FootpathError: the task's metric is of two classes, and there are more.
    """
    width = found.scores_nC.shape[1]
    is_binary = found.kind == "classification" and width == 2
    known = [each.name for each in metrics_of(found.kind) if is_binary or not each.two_classes]
    if task.metric not in known:
        raise FootpathError(
            f"task '{task.name}' has no {task.metric}, which is of two classes, for it has "
            f"{width}: take {', '.join(known)}"
        )
    return {name: FORMULAS[name].value(found) for name in dict.fromkeys((task.metric, *known))}


def metric_rows(columns: dict[str, Any], figures: dict[str, float]) -> list[dict]:
    """Returns METRICS rows of one measurement: its columns with each of its figures."""
    return [{**columns, "metric": name, "value": value} for name, value in figures.items()]


def metrics_table(rows: list[dict]) -> pa.Table:
    """Returns METRICS rows as a table of that schema."""
    return pa.Table.from_pylist(rows, schema=METRICS)


def headline(rows: list[dict], tasks: list[Task]) -> dict[str, float]:
    """Each task's own metric at the largest label share, averaged over seeds.

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
