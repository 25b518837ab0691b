"""Members of a stack: models of a task, each on one kind of input, with a path of choices.

A member is fitted once for all its choices (penalties, numbers of trees), and the validation users
say which is taken. A fit takes any of its choices, and predicts with each of those.

Shapes: n examples, K choices, C classes (1 for a number).
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
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
      choices: what validation users choose from.
      fit: fits rows and labels for some of the choices.
      on_sample: fitted on a sample where there are many training examples: it costs too much.
    """

    name: str
    x: dict[str, Matrix]
    choices: Sequence[Any]
    fit: Callable[[Matrix, np.ndarray, Sequence[Any]], Path]
    on_sample: bool = False


def linear(name: str, x: dict[str, np.ndarray], classes: int) -> Member:
    """The heads of `models.probing.probe` on standardized rows, one for each penalty."""

    def fit(x_nD: np.ndarray, y_n: np.ndarray, penalties: Sequence[float]) -> Path:
        return _heads(x_nD, y_n, classes, [(np.ones(x_nD.shape[1]), each) for each in penalties])

    return Member(name, x, PENALTIES, fit)


def joint(
    name: str, first: dict[str, np.ndarray], second: dict[str, np.ndarray], classes: int
) -> Member:
    """The same on two blocks of columns, each with a penalty of its own."""
    x = {split: np.concatenate([first[split], second[split]], axis=1) for split in first}
    is_second = np.arange(x["train"].shape[1]) >= first["train"].shape[1]
    # So many columns need some penalty.
    choices = [(pair, penalty) for pair in BOTH for penalty in PENALTIES[1:]]

    def fit(x_nD: np.ndarray, y_n: np.ndarray, choices: Sequence[tuple]) -> Path:
        factors = [(np.where(is_second, *pair[::-1]), penalty) for pair, penalty in choices]
        return _heads(x_nD, y_n, classes, factors)

    return Member(name, x, choices, fit)


def bag(name: str, x: dict[str, Matrix], classes: int) -> Member:
    """Logistic regression or ridge on a sparse bag of items, one for each strength."""

    def fit(x_nV: Matrix, y_n: np.ndarray, strengths: Sequence[float]) -> Path:
        if not classes:
            ridges = [Ridge(alpha=1 / strength).fit(x_nV, y_n) for strength in strengths]
            return lambda x: np.stack([ridge.predict(x) for ridge in ridges])[:, :, None]
        if len(only := np.unique(y_n)) == 1:
            return always(only, classes)
        models = [LogisticRegression(C=strength, max_iter=300) for strength in strengths]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # others judge it as it is
            models = [model.fit(x_nV, y_n) for model in models]
        return lambda x: np.stack(
            [spread(model.predict_proba(x), model.classes_, classes) for model in models]
        )

    return Member(name, x, STRENGTHS, fit)


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
    x_nD: np.ndarray, y_n: np.ndarray, classes: int, choices: Sequence[tuple[np.ndarray, float]]
) -> Path:
    """Fits a head for each factor of the columns and penalty, these rising for each factor."""
    scale = Scale(0.0, 1.0) if classes else Scale(float(y_n.mean()), float(y_n.std()) or 1.0)
    targets_n, heads = scale.targets(y_n), []
    for factor, these in groupby(choices, key=lambda choice: tuple(choice[0])):
        penalties = [penalty for _, penalty in these]
        x = torch.from_numpy(x_nD * np.array(factor))
        heads += [(np.array(factor), h) for h in head_path(x, targets_n, classes, penalties)]

    def predict(x_nD: np.ndarray) -> np.ndarray:
        found = [head(torch.from_numpy(x_nD * factor).double()) for factor, head in heads]
        return np.stack([scale.predictions(scores, bool(classes)) for scores in found])

    return predict
