"""Members of a stack: models of a task, each on one kind of input, with a path of choices.

A member is fitted once for all its choices (penalties, numbers of trees), and the validation users
say which is taken. A fit takes any of its choices, and predicts with each of those.

Shapes: n examples, K choices, C classes (1 for a number).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from models.data.examples import is_newest
from models.probing.fitted import Fitted, LinearModel, spread
from models.probing.probe import PENALTIES, Scale, head_path

if TYPE_CHECKING:  # it loads for a second: who predicts by what is stored goes without
    from sklearn.linear_model import LogisticRegression, Ridge

Matrix = Any  # a sparse or dense matrix of one row an example
Path = Callable[[Matrix], np.ndarray]  # rows -> probabilities or numbers of each choice [K, n, C]

STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # C of logistic regression on bags, 1 / alpha of ridge
BOTH = ((1.0, 0.3), (1.0, 1.0))  # factors of two blocks that are tried
TINY = 1e-6  # probabilities are kept from 0 by it


@dataclass(frozen=True)
class Examples:
    """What a member is fitted on: rows, labels, and what each counts (`Labeled.weights_n`)."""

    x: Matrix
    y_n: np.ndarray
    weights_n: np.ndarray | None = None

    def newest(self) -> Examples:
        """Those of the as-of day alone."""
        if self.weights_n is None:
            return self
        chosen = self.pick(np.flatnonzero(is_newest(self.weights_n, len(self.y_n))))
        return replace(chosen, weights_n=None)

    def pick(self, chosen_n: np.ndarray) -> Examples:
        """Chosen ones."""
        weights_n = None if self.weights_n is None else self.weights_n[chosen_n]
        return Examples(self.x[chosen_n], self.y_n[chosen_n], weights_n)


@dataclass(frozen=True)
class Member:
    """One kind of input and what is fitted on it.

    Attributes:
      name: of the member.
      x: rows by split; those of `train` are of the label share at hand.
      choices: what validation users choose from.
      fit: fits examples for some of the choices.
      keep: fits the same for one choice, as all of them were fitted, into arrays to store.
      on_sample: fitted on a sample where there are many training examples: it costs too much.
      on_newest: its training rows are those of the as-of day alone.
    """

    name: str
    x: dict[str, Matrix]
    choices: Sequence[Any]
    fit: Callable[[Examples, Sequence[Any]], Path]
    keep: Callable[[Examples, Any], Fitted] | None = None
    on_sample: bool = False
    on_newest: bool = False


def linear(name: str, x: dict[str, np.ndarray], classes: int) -> Member:
    """The heads of `models.probing.probe` on standardized rows, one for each penalty."""

    def fit(train: Examples, penalties: Sequence[float]) -> Path:
        return _heads(train, classes, [(np.ones(train.x.shape[1]), each) for each in penalties])

    def keep(train: Examples, penalty: float) -> Fitted:
        return _kept_head(train, classes, np.ones(train.x.shape[1]), penalty, PENALTIES)

    return Member(name, x, PENALTIES, fit, keep)


def joint(
    name: str, first: dict[str, np.ndarray], second: dict[str, np.ndarray], classes: int
) -> Member:
    """The same on two blocks of columns, each with a penalty of its own."""
    x = {split: np.concatenate([first[split], second[split]], axis=1) for split in first}
    is_second = np.arange(x["train"].shape[1]) >= first["train"].shape[1]
    # So many columns need some penalty.
    choices = [(pair, penalty) for pair in BOTH for penalty in PENALTIES[1:]]

    def fit(train: Examples, choices: Sequence[tuple]) -> Path:
        factors = [(np.where(is_second, *pair[::-1]), penalty) for pair, penalty in choices]
        return _heads(train, classes, factors)

    def keep(train: Examples, choice: tuple) -> Fitted:
        pair, penalty = choice
        factor = np.where(is_second, *pair[::-1])
        return _kept_head(train, classes, factor, penalty, PENALTIES[1:])

    return Member(name, x, choices, fit, keep)


def bag(name: str, x: dict[str, Matrix], classes: int) -> Member:
    """Logistic regression or ridge on a sparse bag of items, one for each strength."""

    def fit(train: Examples, strengths: Sequence[float]) -> Path:
        if not classes:
            ridges = [_bag_ridge(train, strength) for strength in strengths]
            return lambda x: np.stack([ridge.predict(x) for ridge in ridges])[:, :, None]
        if len(only := np.unique(train.y_n)) == 1:
            return always(only, classes)
        models = [_bag_logistic(train, strength) for strength in strengths]
        return lambda x: np.stack(
            [spread(model.predict_proba(x), model.classes_, classes) for model in models]
        )

    def keep(train: Examples, strength: float) -> Fitted:
        if not classes:
            ridge = _bag_ridge(train, strength)
            return LinearModel(ridge.coef_[None, :], np.array([ridge.intercept_]))
        weight_CV, known = np.zeros((classes, train.x.shape[1])), np.unique(train.y_n).astype(int)
        bias_C = np.full(classes, -np.inf)
        if len(known) == 1:
            bias_C[known] = 0
            return LinearModel(weight_CV, bias_C)
        model = _bag_logistic(train, strength)
        weight_KV, bias_K = model.coef_, model.intercept_
        if len(bias_K) == 1:  # of two classes the second, against 0
            weight_KV, bias_K = np.vstack([0 * weight_KV, weight_KV]), np.append(0.0, bias_K)
        weight_CV[known], bias_C[known] = weight_KV, bias_K
        return LinearModel(weight_CV, bias_C)

    return Member(name, x, STRENGTHS, fit, keep)


def _bag_ridge(train: Examples, strength: float) -> Ridge:
    from sklearn.linear_model import Ridge

    return Ridge(alpha=1 / strength).fit(train.x, train.y_n, train.weights_n)


def _bag_logistic(train: Examples, strength: float) -> LogisticRegression:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # others judge it as it is
        model = LogisticRegression(C=strength, max_iter=300)
        return model.fit(train.x, train.y_n, train.weights_n)


def always(only: np.ndarray, classes: int) -> Path:
    """Predicts the one class that there is."""
    return lambda x: spread(np.ones((x.shape[0], 1)), only, classes)[None]


def losses(predicted: np.ndarray, y_n: np.ndarray, classes: int) -> np.ndarray:
    """Cross-entropy or absolute error of each example: [..., n, C] -> [..., n]."""
    if not classes:
        return np.abs(predicted[..., 0] - y_n)
    return -np.log(np.maximum(predicted[..., np.arange(len(y_n)), y_n], TINY))


def _heads(train: Examples, classes: int, choices: Sequence[tuple[np.ndarray, float]]) -> Path:
    """Fits a head for each factor of the columns and penalty, these rising for each factor."""
    scale, heads = _scale(train.y_n, classes), []
    targets_n, weights_n = scale.targets(train.y_n), train.weights_n
    for factor, these in groupby(choices, key=lambda choice: tuple(choice[0])):
        penalties = [penalty for _, penalty in these]
        x = torch.from_numpy(train.x * np.array(factor))
        path = head_path(x, targets_n, classes, penalties, weights_n)
        heads += [(np.array(factor), head) for head in path]

    def predict(x_nD: np.ndarray) -> np.ndarray:
        found = [head(torch.from_numpy(x_nD * factor).double()) for factor, head in heads]
        return np.stack([scale.predictions(scores, bool(classes)) for scores in found])

    return predict


def _kept_head(
    train: Examples,
    classes: int,
    factor_D: np.ndarray,
    penalty: float,
    penalties: Sequence[float],
) -> LinearModel:
    """Fits the path of heads anew, for a solution starts the next, and takes that of a penalty."""
    scale, x_nD = _scale(train.y_n, classes), torch.from_numpy(train.x * factor_D)
    heads = head_path(x_nD, scale.targets(train.y_n), classes, penalties, train.weights_n)
    head = heads[list(penalties).index(penalty)]
    weight_CD, bias_C = head.weight_CD.double().numpy() * factor_D, head.bias_C.double().numpy()
    return LinearModel(weight_CD * scale.spread, bias_C * scale.spread + scale.center)


def _scale(y_n: np.ndarray, classes: int) -> Scale:
    return Scale(0.0, 1.0) if classes else Scale(float(y_n.mean()), float(y_n.std()) or 1.0)
