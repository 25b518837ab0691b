"""Metrics of weighted examples, for many weightings at once: what a bootstrap asks for.

Shapes: n examples, C classes, R weightings.
"""

from collections.abc import Callable

import numpy as np

from models.metrics.predictions import Predicted
from models.metrics.rank import Ranks, gain

# weights [R, n] -> the metric under each, [R]
Weighted = Callable[[np.ndarray], np.ndarray]


def weighted(metric: str, found: Predicted) -> Weighted | None:
    """Returns a metric of predictions as a function of weights; None where there is none."""
    if found.kind == "classification":
        return _CLASSES[metric](found) if metric in _CLASSES else None
    if found.kind == "regression":
        error = np.abs(found.scores_nC[:, 0] - found.y_n)
        if metric == "rmse":
            return lambda weights: np.sqrt(_mean(weights, np.square(error)))
        return (lambda weights: _mean(weights, error)) if metric == "mae" else None
    gain_n = gain(metric, Ranks.of_scores(found.scores_nC))
    return None if gain_n is None else lambda weights: _mean(weights, gain_n)


def _accuracy(found: Predicted) -> Weighted:
    right = (found.scores_nC.argmax(axis=1) == found.y_n).astype(float)
    return lambda weights: _mean(weights, right)


def _macro_f1(found: Predicted) -> Weighted:
    predicted, y = found.scores_nC.argmax(axis=1), found.y_n.astype(int)
    classes = np.union1d(predicted, y)
    is_c, said_c = y[:, None] == classes, predicted[:, None] == classes

    def value(weights: np.ndarray) -> np.ndarray:
        both = weights @ (is_c & said_c)
        total = weights @ is_c.astype(float) + weights @ said_c.astype(float)
        return np.mean(2 * both / np.maximum(total, 1e-12), axis=1)

    return value


def _auc(found: Predicted) -> Weighted:
    width, y = found.scores_nC.shape[1], found.y_n.astype(int)
    classes = [1] if width == 2 else [c for c in range(width) if (y == c).sum() > 0]
    curves = [_auc_of(found.scores_nC[:, c], y == c) for c in classes]
    return lambda weights: np.nanmean([curve(weights) for curve in curves], axis=0)


def _auc_of(score_n: np.ndarray, is_positive: np.ndarray) -> Weighted:
    """Area under the curve = chance that a positive outranks a negative; ties count a half."""
    positives = np.flatnonzero(is_positive)
    positives = positives[np.argsort(score_n[positives])]
    negatives = np.flatnonzero(~is_positive)
    negatives = negatives[np.argsort(score_n[negatives])]
    # How many negatives each positive outranks: without its ties, and with them.
    below = np.searchsorted(score_n[negatives], score_n[positives], side="left")
    upto = np.searchsorted(score_n[negatives], score_n[positives], side="right")

    def value(weights: np.ndarray) -> np.ndarray:
        beaten = np.zeros((len(weights), len(negatives) + 1))
        np.cumsum(weights.take(negatives, axis=1), axis=1, out=beaten[:, 1:])
        won = beaten.take(below, axis=1)
        won += beaten.take(upto, axis=1)
        up = weights.take(positives, axis=1)
        pairs = up.sum(axis=1) * beaten[:, -1]
        with np.errstate(invalid="ignore", divide="ignore"):  # a draw without one of the classes
            return np.where(pairs > 0, np.einsum("rp,rp->r", up, won) / 2 / pairs, np.nan)

    return value


def _from_the_top(found: Predicted) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the users by falling score, the last of each run of equal scores, and who is one."""
    score, positive = found.scores_nC[:, -1], found.y_n == found.scores_nC.shape[1] - 1
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    hits = positive[order].astype(float)
    return order, ends, hits


def _ap(found: Predicted) -> Weighted:
    order, ends, hits = _from_the_top(found)

    def value(weights: np.ndarray) -> np.ndarray:
        sorted_weights = weights[:, order]
        seen = np.cumsum(sorted_weights, axis=1)[:, ends]
        right = np.cumsum(sorted_weights * hits, axis=1)[:, ends]
        precision = right / np.maximum(seen, 1e-12)
        steps = np.diff(right, axis=1, prepend=0)
        return (precision * steps).sum(axis=1) / np.maximum(right[:, -1], 1e-12)

    return value


def _ks(found: Predicted) -> Weighted:
    order, ends, hits = _from_the_top(found)

    def value(weights: np.ndarray) -> np.ndarray:
        sorted_weights = weights[:, order]
        true = np.cumsum(sorted_weights * hits, axis=1)
        false = np.cumsum(sorted_weights * (1 - hits), axis=1)
        gap = true / np.maximum(true[:, -1:], 1e-12) - false / np.maximum(false[:, -1:], 1e-12)
        return np.maximum(gap[:, ends].max(axis=1), 0)

    return value


def _mean(weights: np.ndarray, value_n: np.ndarray) -> np.ndarray:
    return weights @ value_n / np.maximum(weights.sum(axis=1), 1e-12)


_CLASSES: dict[str, Callable[[Predicted], Weighted]] = {
    "auc": _auc,
    "accuracy": _accuracy,
    "macro_f1": _macro_f1,
    "ap": _ap,
    "ks": _ks,
}
