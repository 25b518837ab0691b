"""What is known of versions by their validation users: cells, predictions, figures."""

import dataclasses
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from contracts.config.metrics import metric_of
from contracts.lake.copies import local_copy
from contracts.lake.layout import Lake
from contracts.lake.versions import ModelVersion
from models.experiments.cells import Cell, read_measured

if TYPE_CHECKING:
    from models.metrics.predictions import Predicted


EMBEDDING, PROFILE = "embedding", "profile"  # inputs of heads, as METRICS names them


@lru_cache(maxsize=10_000)  # what a cell has measured does not change
def validation_value(cell: Cell, metric: str, inputs: str = EMBEDDING) -> float | None:
    """What a cell is worth on the validation users; None where its metric has no value there.

    Larger is better: of an error it is the share that is saved against the best constant.

    Args:
      cell: that is measured.
      metric: of its task.
      inputs: of the head.
    """
    found = validation_predictions(cell, inputs)
    value = figure(metric, found) if found else None
    if found is None or value is None or metric_of(metric).larger_is_better:
        return value
    return 1 - value / constant if (constant := constant_error(metric, found)) else -value


def constant_error(metric: str, found: "Predicted") -> float:
    """The error of the best constant: the mean or the median; 0 where there is none."""
    constants = [
        dataclasses.replace(found, scores_nC=np.full((len(found.y_n), 1), of(found.y_n)))
        for of in (np.mean, np.median)
    ]
    return min((e for c in constants if (e := figure(metric, c)) is not None), default=0.0)


def validation_predictions(cell: Cell, inputs: str = EMBEDDING) -> "Predicted | None":
    """What a head of a cell says of the validation users; by default by the embedding alone."""
    from models.metrics.predictions import read_predictions

    is_valid = (pc.field("split") == "valid") & (pc.field("inputs") == inputs)
    path = local_copy(cell.lake, cell.predictions)
    found = [parts["valid"] for parts in read_predictions([path], is_valid).values()]
    return found[0] if found else None


def figure(metric: str, found: "Predicted") -> float | None:
    """A metric of predictions; None where it has no value, as a curve of one class alone."""
    from models.metrics.formulas import weighted

    value = weighted(metric, found)
    number = float(value(np.ones((1, len(found.y_n))))[0]) if value else np.nan
    return number if np.isfinite(number) else None


def cells_of(lake: Lake, version: ModelVersion, protocol: str) -> list[Cell]:
    """A version's cells with all labels, of the first seed."""
    measured = read_measured(lake, version.version)
    first = min((each.seed for each in measured), default=0)
    found = [c for each in measured if each.seed == first for c in each.cells]
    most = max((cell.share for cell in found), default=0)
    return [cell for cell in found if cell.protocol == protocol and cell.share == most]
