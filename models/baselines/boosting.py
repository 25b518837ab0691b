"""Gradient boosting on features, and its mean with a linear model: what a practitioner has quickly.

scikit-learn's histogram trees, small ones: a missing value goes its own way at each split. How many
trees are kept, the validation users say, as they say the penalty of the linear model.
"""

from collections.abc import Callable

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

LEAVES, RATE = 8, 0.06
TINY = 1e-6  # probabilities are kept from 0 and 1 by it

Predict = Callable[
    [np.ndarray], np.ndarray
]  # rows [n, F] -> probabilities [n, C], or numbers [n, 1]


def fit_boosting(
    train: tuple[np.ndarray, np.ndarray],
    valid: tuple[np.ndarray, np.ndarray],
    classes: int,
    loss: Callable[[np.ndarray, np.ndarray], float],
    trees: int,
) -> Predict:
    """Fits trees on features.

    Args:
      train: features [n, F] with NaN where missing, and class indices or numbers [n].
      valid: the same of the validation users.
      classes: how many there are; 0 for a number.
      loss: of labels [n] and predictions, to choose the number of trees by.
      trees: how many at most.
    """
    y, told = train[1], _telling(train[0])
    x, x_valid = train[0][:, told], valid[0][:, told]
    if not told.any():  # nothing to split by: one column that is the same for everyone
        x, x_valid = np.zeros((len(x), 1)), np.zeros((len(x_valid), 1))
    settings = {
        "max_iter": trees, "max_leaf_nodes": LEAVES, "learning_rate": RATE,
        "min_samples_leaf": max(2, min(20, len(y) // 20)), "l2_regularization": 1.0,
        "early_stopping": False, "random_state": 0,
    }  # fmt: skip
    if not classes:
        model = HistGradientBoostingRegressor(**settings).fit(x, y)
        staged = (stage.reshape(-1, 1) for stage in model.staged_predict(x_valid))
    else:
        model = HistGradientBoostingClassifier(**settings).fit(x, y)
        staged = (
            _spread(stage, model.classes_, classes) for stage in model.staged_predict_proba(x_valid)
        )
    losses = [loss(valid[1], stage) for stage in staged]
    kept = int(np.argmin(losses))

    def predict(rows: np.ndarray) -> np.ndarray:
        rows = rows[:, told] if told.any() else np.zeros((len(rows), 1))
        if not classes:
            stages = model.staged_predict(rows)
            return next(s for at, s in enumerate(stages) if at == kept).reshape(-1, 1)
        stages = model.staged_predict_proba(rows)
        found = next(stage for at, stage in enumerate(stages) if at == kept)
        return _spread(found, model.classes_, classes)

    return predict


def _telling(x: np.ndarray) -> np.ndarray:
    """The columns with two known values: scikit-learn cannot cut others into bins."""
    is_known = np.isfinite(x)
    least = np.where(is_known, x, np.inf).min(axis=0)
    most = np.where(is_known, x, -np.inf).max(axis=0)
    return least < most


def mean_of(predictions: list[np.ndarray], classes: int) -> np.ndarray:
    """Mean of several models: of numbers as they are, of classes by their log-odds [n, C]."""
    if not classes:
        return np.mean(predictions, axis=0)
    logs = [np.log(np.clip(p, TINY, 1 - TINY)) for p in predictions]
    if classes == 2:
        odds = np.mean([log[:, 1] - log[:, 0] for log in logs], axis=0)
        second = 1 / (1 + np.exp(-odds))
        return np.stack([1 - second, second], axis=1)
    mean = np.exp(np.mean(logs, axis=0))
    return mean / mean.sum(axis=1, keepdims=True)


def _spread(found: np.ndarray, known: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities of all classes: those that no training user has are 0."""
    whole = np.zeros((len(found), classes))
    whole[:, known.astype(int)] = found
    return whole
