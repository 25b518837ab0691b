"""Measures predictions, and keeps the figures as METRICS rows."""

from collections.abc import Mapping
from math import isnan
from typing import Any

import numpy as np
import pyarrow as pa

from contracts.base.errors import FootpathError
from contracts.config.metrics import metric_beside, metrics_of
from contracts.lake.schemas import METRICS
from models.data.labels import Task
from models.metrics.formulas import FORMULAS
from models.metrics.predictions import Predicted


def measure(task: Task, found: Predicted) -> dict[str, float | None]:
    """Measures predictions by all metrics of their kind; the task's own comes first.

    A metric that these examples have none of (AUC, where all are of one class) is None.

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
    figures = {name: FORMULAS[name].value(found) for name in dict.fromkeys((task.metric, *known))}
    return {name: None if isnan(value) else value for name, value in figures.items()}


def metric_rows(columns: dict[str, Any], figures: Mapping[str, float | None]) -> list[dict]:
    """Returns METRICS rows of one measurement: its columns with each of its figures."""
    return [{**columns, "metric": name, "value": value} for name, value in figures.items()]


def metrics_table(rows: list[dict]) -> pa.Table:
    """Returns METRICS rows as a table of that schema."""
    return pa.Table.from_pylist(rows, schema=METRICS)


def headline(rows: list[dict], tasks: list[Task]) -> dict[str, float]:
    """Each task's own metric, and that beside it, at the largest label share, over seeds.

    Keys say "<task>/<protocol>_<metric>", with the method where there are several.
    """
    share = max((row["label_share"] for row in rows), default=0.0)
    several = len({row["method"] for row in rows}) > 1
    values: dict[str, list[float]] = {}
    for task in tasks:
        found = [row for row in rows if row["task"] == task.name]
        beside = metric_beside(task.metric, {row["metric"] for row in found})
        for row in found:
            shown = row["metric"] in (task.metric, beside) and row["value"] is not None
            if shown and row["label_share"] == share:
                who = row["method"] if several else row["protocol"]
                values.setdefault(f"{task.name}/{who}_{row['metric']}", []).append(row["value"])
    return {key: float(np.mean(found)) for key, found in values.items()}
