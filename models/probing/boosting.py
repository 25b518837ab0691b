"""Gradient boosting: what a practitioner has quickly where labels are not linear in the inputs.

scikit-learn's histogram trees, small ones: a missing value goes its own way at each split. How many
trees are kept is for users to choose whom they were not fitted on.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from models.probing.members import Member, Path, always, spread

LEAVES, RATE = 8, 0.06
EVERY = 5  # trees between two choices of how many to keep
SETTINGS = {
    "max_leaf_nodes": LEAVES, "learning_rate": RATE, "l2_regularization": 1.0,
    "early_stopping": False, "random_state": 0,
    "max_bins": 63,  # as good as 255 on thousands of users, in half the time
}  # fmt: skip


def boosted(name: str, x: dict[str, np.ndarray], classes: int, trees: int) -> Member:
    """Gradient boosting with the first 5 trees, the first 10 and so on.

    Args:
      name: of the member.
      x: columns by split, NaN where missing.
      classes: how many there are; 0 for a number.
      trees: how many at most.
    """
    sizes = sorted({*range(EVERY, trees, EVERY), trees})
    return Member(name, x, sizes, partial(_fit, classes), on_sample=True)


def _fit(classes: int, x_nF: np.ndarray, y_n: np.ndarray, sizes: Sequence[int]) -> Path:
    if classes and len(only := np.unique(y_n)) == 1:
        return always(only, classes)
    told = _telling(x_nF)

    def columns(x_nF: np.ndarray) -> np.ndarray:
        # Nothing to split by: one column that is the same for everyone.
        return x_nF[:, told] if told.any() else np.zeros((len(x_nF), 1))

    leaf = max(2, min(20, len(y_n) // 20))
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    model = kind(max_iter=max(sizes), min_samples_leaf=leaf, **SETTINGS).fit(columns(x_nF), y_n)

    def predict(x_nF: np.ndarray) -> np.ndarray:
        x_nF = columns(x_nF)
        staged = model.staged_predict_proba(x_nF) if classes else model.staged_predict(x_nF)
        kept = [stage for size, stage in enumerate(staged, 1) if size in sizes]
        if not classes:
            return np.stack(kept)[:, :, None]
        return np.stack([spread(stage, model.classes_, classes) for stage in kept])

    return predict


def _telling(x: np.ndarray) -> np.ndarray:
    """The columns with two known values: scikit-learn cannot cut others into bins."""
    is_known = np.isfinite(x)
    least = np.where(is_known, x, np.inf).min(axis=0)
    most = np.where(is_known, x, -np.inf).max(axis=0)
    return least < most
