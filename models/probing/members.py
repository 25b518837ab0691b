"""Members of a stack: models of a task, each on one kind of input, with a path of choices.

A member is fitted once for all its choices (penalties, numbers of trees), and users it was not
fitted on say which is taken: the validation users, and by cross-validation the training users.

Shapes: n examples, K choices, C classes (1 for a number).
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from models.probing.probe import PENALTIES, Scale, head_path

Matrix = Any  # a sparse or dense matrix of one row an example
Path = Callable[[Matrix], np.ndarray]  # rows -> probabilities or numbers of each choice [K, n, C]

STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # C of logistic regression on bags, 1 / alpha of ridge
BOTH = ((1.0, 0.3), (1.0, 1.0))  # factors of two blocks that are tried
TINY = 1e-6  # probabilities are kept from 0 by it


@dataclass(frozen=True)
class Member:
    """One kind of input and what is fitted on it.

    Attributes:
      name: of the member.
      x: rows by split; those of `train` are of the label share at hand.
      fit: fits rows and labels for all choices.
      on_sample: fitted on a sample where there are many training examples: it costs too much.
      prior: its weight in a stack where nothing is known, beside those of the others.
    """

    name: str
    x: dict[str, Matrix]
    fit: Callable[[Matrix, np.ndarray], Path]
    on_sample: bool = False
    prior: float = 1.0


def linear_path(x_nD: np.ndarray, y_n: np.ndarray, classes: int) -> Path:
    """The heads of `models.probing.probe` on standardized rows, one for each penalty."""
    return _heads(x_nD, y_n, classes, [np.ones(x_nD.shape[1])])


def joint_path(x_nD: np.ndarray, y_n: np.ndarray, classes: int, width: int) -> Path:
    """The same on two blocks, the first `width` columns and the others, each with its penalty."""
    blocks = np.arange(x_nD.shape[1]) >= width
    factors = [np.where(blocks, *pair[::-1]) for pair in BOTH]
    return _heads(x_nD, y_n, classes, factors, PENALTIES[1:])  # so many columns need some


def bag_path(x_nV: Matrix, y_n: np.ndarray, classes: int) -> Path:
    """Logistic regression or ridge on a sparse bag of items, one for each strength."""
    if not classes:
        ridges = [Ridge(alpha=1 / strength).fit(x_nV, y_n) for strength in STRENGTHS]
        return lambda x: np.stack([ridge.predict(x) for ridge in ridges])[:, :, None]
    if len(only := np.unique(y_n)) == 1:
        return always(only, classes)
    models = [LogisticRegression(C=strength, max_iter=300) for strength in STRENGTHS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # others judge it as it is
        models = [model.fit(x_nV, y_n) for model in models]
    return lambda x: np.stack(
        [spread(model.predict_proba(x), model.classes_, classes) for model in models]
    )


def spread(found_nK: np.ndarray, known: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities of all classes: those that no training user has are 0."""
    whole = np.zeros((len(found_nK), classes))
    whole[:, known.astype(int)] = found_nK
    return whole


def always(only: np.ndarray, classes: int) -> Path:
    """Predicts the one class that there is."""
    return lambda x: spread(np.ones((x.shape[0], 1)), only, classes)[None]


def losses(predicted: np.ndarray, y_n: np.ndarray, classes: int) -> np.ndarray:
    """Cross-entropy or absolute error of each example: [..., n, C] -> [..., n]."""
    if not classes:
        return np.abs(predicted[..., 0] - y_n)
    return -np.log(np.maximum(predicted[..., np.arange(len(y_n)), y_n], TINY))


def _heads(
    x_nD: np.ndarray,
    y_n: np.ndarray,
    classes: int,
    factors: list[np.ndarray],
    penalties: tuple[float, ...] = PENALTIES,
) -> Path:
    scale = Scale(0.0, 1.0) if classes else Scale(float(y_n.mean()), float(y_n.std()) or 1.0)
    heads = []
    for factor in factors:
        x = torch.from_numpy(x_nD * factor)
        heads += [(factor, head) for head in head_path(x, scale.targets(y_n), classes, penalties)]

    def predict(x_nD: np.ndarray) -> np.ndarray:
        found = [head(torch.from_numpy(x_nD * factor).double()) for factor, head in heads]
        return np.stack([scale.predictions(scores, bool(classes)) for scores in found])

    return predict
