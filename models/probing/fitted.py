"""Fitted members of a stack as plain arrays: what is stored of them, and how these predict.

scikit-learn and torch fit; nothing of them is stored and none is needed to predict. A linear model
is a matrix and a bias, boosted trees are their nodes one after the other. Both predict what the
model that they are of predicts, to the rounding of a sum.

Shapes: n examples, F columns, C classes (1 for a number), N nodes, T trees, K trees of a step.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.special import expit

BLOCK = 1 << 14  # rows that go through the trees together


@dataclass(frozen=True)
class LinearModel:
    """Probabilities by the softmax of x W^T + b, or that number itself."""

    weight_CF: np.ndarray
    bias_C: np.ndarray  # -inf: of a class that no training example has

    def __call__(self, x_nF: Any) -> np.ndarray:
        """Predicts rows, dense or sparse -> probabilities of classes, or numbers [n, C]."""
        scores_nC = np.asarray(x_nF @ self.weight_CF.T, np.float64) + self.bias_C
        return softmax(scores_nC) if len(self.bias_C) > 1 else scores_nC


@dataclass(frozen=True)
class Trees:
    """Boosted trees: the sum of a leaf of each, by class, and what the loss makes of it.

    Node i sends rows with a value of at most `threshold_N[i]` to `left_N[i]` and others to
    `right_N[i]`; rows without a value as `missing_left_N[i]` says. A leaf sends them to itself.
    """

    column_N: np.ndarray  # int32
    threshold_N: np.ndarray
    missing_left_N: np.ndarray  # bool
    left_N: np.ndarray  # int32
    right_N: np.ndarray  # int32
    value_N: np.ndarray
    root_T: np.ndarray  # int32: step after step, in each a tree for each score
    baseline_K: np.ndarray
    known_C: np.ndarray  # bool: classes that a training example has; of a number one

    def __call__(self, x_nF: np.ndarray) -> np.ndarray:
        """Predicts rows, NaN where a value is missing -> probabilities, or numbers [n, C]."""
        starts = range(0, x_nF.shape[0], BLOCK)
        blocks = [self._scores(x_nF[start : start + BLOCK]) for start in starts]
        raw_nK = np.concatenate(blocks) if blocks else np.zeros((0, len(self.baseline_K)))
        if len(self.known_C) == 1:
            return raw_nK
        known = np.flatnonzero(self.known_C)
        if len(known) == 2:  # one score, of the second
            chance_n1 = expit(raw_nK)
            return spread(np.hstack([1 - chance_n1, chance_n1]), known, len(self.known_C))
        return spread(softmax(raw_nK), known, len(self.known_C))

    def _scores(self, x_nF: np.ndarray) -> np.ndarray:
        x_nF, rows_n, steps = np.asarray(x_nF, np.float64), np.arange(len(x_nF)), len(self.left_N)
        raw_nK = np.tile(self.baseline_K, (len(x_nF), 1))
        for number, root in enumerate(self.root_T):
            node_n = np.full(len(x_nF), root)
            for _ in range(steps):  # no path is longer; all end long before
                value_n = x_nF[rows_n, self.column_N[node_n]]
                goes_left_n = value_n <= self.threshold_N[node_n]
                goes_left_n |= np.isnan(value_n) & self.missing_left_N[node_n]
                next_n = np.where(goes_left_n, self.left_N[node_n], self.right_N[node_n])
                if np.array_equal(next_n, node_n):
                    break
                node_n = next_n
            raw_nK[:, number % raw_nK.shape[1]] += self.value_N[node_n]
        return raw_nK


def one_class(known_C: np.ndarray) -> Trees:
    """Says of everybody the one class that there is."""
    nothing, root = np.zeros(1), np.zeros(1, np.int32)
    return Trees(root, nothing, nothing > 0, root, root, nothing, root, nothing, known_C)


Fitted = LinearModel | Trees
KINDS: dict[str, type[Fitted]] = {"linear": LinearModel, "trees": Trees}


def kind_of(fitted: Fitted) -> str:
    """The name of its kind in KINDS."""
    return next(kind for kind, each in KINDS.items() if isinstance(fitted, each))


def arrays_of(fitted: Any) -> dict[str, np.ndarray]:
    """The arrays of a dataclass that holds nothing else, by name."""
    return {field.name: getattr(fitted, field.name) for field in fields(fitted)}


def of_arrays(kind: type, arrays: Mapping[str, np.ndarray], prefix: str) -> Any:
    """Undoes `arrays_of`; the names begin with a prefix.

    Raises:
      KeyError: an array is missing.
    """
    return kind(**{field.name: arrays[f"{prefix}{field.name}"] for field in fields(kind)})


def spread(found_nK: np.ndarray, known: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities of all classes: those that no training user has are 0."""
    whole = np.zeros((len(found_nK), classes))
    whole[:, known.astype(int)] = found_nK
    return whole


def softmax(scores_nC: np.ndarray) -> np.ndarray:
    """Probabilities of scores."""
    odds = np.exp(scores_nC - scores_nC.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)
