"""The formula of each metric: its value, and its value under many weightings of the examples.

The weighted form takes all weightings at once: it is what a bootstrap over users asks for. Which
kinds of task a metric has, and whether a large one is good, is in contracts.config.metrics.

Shapes: n examples, C classes, R weightings.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn import metrics as sk

from contracts.config.metrics import KNOWN_METRICS
from models.metrics.predictions import Predicted
from models.metrics.rank import Ranks

# weights [R, n] -> the metric under each, [R]
Weighted = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Formula:
    """How a metric is computed of predictions."""

    value: Callable[[Predicted], float]
    weighted: Callable[[Predicted], Weighted]


def weighted(metric: str, found: Predicted) -> Weighted | None:
    """A metric of predictions as a function of weights; None where there is none."""
    known = KNOWN_METRICS.get(metric)
    if known is None or found.kind not in known.kinds:
        return None
    return FORMULAS[metric].weighted(found)


def mean_of(
    example_values: Callable[[Predicted], np.ndarray],
    of_mean: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> Formula:
    """Builds a metric that is a mean over examples, or a function of that mean."""

    def weighted_mean(found: Predicted) -> Weighted:
        value_n = example_values(found)
        return lambda weights: of_mean(weights @ value_n / np.maximum(weights.sum(axis=1), 1e-12))

    return Formula(lambda found: float(of_mean(example_values(found).mean())), weighted_mean)


def rank_metric(worth: Callable[[np.ndarray], np.ndarray], depth: float = np.inf) -> Formula:
    """Builds a metric from what each place of the right item is worth, down to a depth."""

    def gain(found: Predicted) -> np.ndarray:
        ranks = Ranks.of_scores(found.scores_nC)
        return ranks.expected(lambda place: worth(place) * (place <= depth))

    return mean_of(gain)


def _is_right(found: Predicted) -> np.ndarray:
    return (found.scores_nC.argmax(axis=1) == found.y_n).astype(float)


def _error(found: Predicted) -> np.ndarray:
    return found.scores_nC[:, 0] - found.y_n


def _macro_f1_value(found: Predicted) -> float:
    predicted = found.scores_nC.argmax(axis=1)
    return float(sk.f1_score(found.y_n, predicted, average="macro", zero_division=0))


def _macro_f1_weighted(found: Predicted) -> Weighted:
    predicted, y = found.scores_nC.argmax(axis=1), found.y_n.astype(int)
    classes = np.union1d(predicted, y)
    is_c, said_c = y[:, None] == classes, predicted[:, None] == classes

    def value(weights: np.ndarray) -> np.ndarray:
        both = weights @ (is_c & said_c)
        total = weights @ is_c.astype(float) + weights @ said_c.astype(float)
        return np.mean(2 * both / np.maximum(total, 1e-12), axis=1)

    return value


def _curves(found: Predicted) -> list[int]:
    """The classes that have a curve, for examples are of them and others are not.

    Of two classes, the second: the curve of the first is the same.
    """
    classes = np.unique(found.y_n).astype(int).tolist()
    if len(classes) < 2:
        return []
    return [1] if found.scores_nC.shape[1] == 2 else classes


def _auc_value(found: Predicted) -> float:
    """Area under the curve; of several classes the mean of one against the rest (macro).

    NaN where all examples are of one class.
    """
    y_n, scores_nC = found.y_n, found.scores_nC
    areas = [sk.roc_auc_score(y_n == c, scores_nC[:, c]) for c in _curves(found)]
    return float(np.mean(areas)) if areas else math.nan


def _auc_weighted(found: Predicted) -> Weighted:
    curves = [_auc_of(found.scores_nC[:, c], found.y_n == c) for c in _curves(found)]

    def value(weights: np.ndarray) -> np.ndarray:
        return mean_of_known([curve(weights) for curve in curves], len(weights))

    return value


def mean_of_known(values_kR: Sequence[np.ndarray], rounds: int) -> np.ndarray:
    """The mean of those of k values that are there, [R]; NaN where none is."""
    known_R, total_R = np.zeros(rounds), np.zeros(rounds)
    for value_R in values_kR:
        known_R += np.isfinite(value_R)
        total_R += np.nan_to_num(value_R)
    return np.divide(total_R, known_R, out=np.full(rounds, np.nan), where=known_R > 0)


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
    """The users by falling score, the last of each run of equal scores, and who is one."""
    score, positive = found.scores_nC[:, -1], found.y_n == found.scores_nC.shape[1] - 1
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    hits = positive[order].astype(float)
    return order, ends, hits


def _ap_value(found: Predicted) -> float:
    return float(sk.average_precision_score(found.y_n, found.scores_nC[:, 1]))


def _ap_weighted(found: Predicted) -> Weighted:
    order, ends, hits = _from_the_top(found)

    def value(weights: np.ndarray) -> np.ndarray:
        sorted_weights = weights[:, order]
        seen = np.cumsum(sorted_weights, axis=1)[:, ends]
        right = np.cumsum(sorted_weights * hits, axis=1)[:, ends]
        precision = right / np.maximum(seen, 1e-12)
        steps = np.diff(right, axis=1, prepend=0)
        return (precision * steps).sum(axis=1) / np.maximum(right[:, -1], 1e-12)

    return value


def _ks_value(found: Predicted) -> float:
    """Kolmogorov-Smirnov: the largest true-positive minus false-positive rate."""
    false_rate, true_rate, _ = sk.roc_curve(found.y_n, found.scores_nC[:, 1])
    return float((true_rate - false_rate).max())


def _ks_weighted(found: Predicted) -> Weighted:
    order, ends, hits = _from_the_top(found)

    def value(weights: np.ndarray) -> np.ndarray:
        sorted_weights = weights[:, order]
        true = np.cumsum(sorted_weights * hits, axis=1)
        false = np.cumsum(sorted_weights * (1 - hits), axis=1)
        gap = true / np.maximum(true[:, -1:], 1e-12) - false / np.maximum(false[:, -1:], 1e-12)
        return np.maximum(gap[:, ends].max(axis=1), 0)

    return value


FORMULAS: dict[str, Formula] = {
    "accuracy": mean_of(_is_right),
    "macro_f1": Formula(_macro_f1_value, _macro_f1_weighted),
    "auc": Formula(_auc_value, _auc_weighted),
    "ap": Formula(_ap_value, _ap_weighted),
    "ks": Formula(_ks_value, _ks_weighted),
    "mae": mean_of(lambda found: np.abs(_error(found))),
    "rmse": mean_of(lambda found: np.square(_error(found)), np.sqrt),
    **{f"recall@{depth}": rank_metric(np.ones_like, depth) for depth in (1, 5, 10, 20)},
    "ndcg@10": rank_metric(lambda place: 1 / np.log2(place + 1), 10),
    "mrr": rank_metric(lambda place: 1 / place),
}
