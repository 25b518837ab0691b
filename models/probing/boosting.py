"""Gradient boosting: what a practitioner has quickly where labels are not linear in the inputs.

scikit-learn's histogram trees, small ones: a missing value goes its own way at each split. How many
trees are kept is for users to choose whom they were not fitted on. Always on one thread: of so few
examples (`models.probing.stack.SAMPLE`) several wait for each other, the longer the more else runs.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from models.probing.fitted import Fitted, Trees, one_class, spread
from models.probing.members import Examples, Member, Path, always

Boosting = HistGradientBoostingClassifier | HistGradientBoostingRegressor

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
    return Member(name, x, sizes, partial(_fit, classes), partial(_keep, classes), on_sample=True)


def _fit(classes: int, train: Examples, sizes: Sequence[int]) -> Path:
    if classes and len(only := np.unique(train.y_n)) == 1:
        return always(only, classes)
    told = _telling(train.x)
    model = _boosting(classes, train, told, max(sizes))

    def predict(x_nF: np.ndarray) -> np.ndarray:
        x_nF = _columns(x_nF, told)
        staged = model.staged_predict_proba(x_nF) if classes else model.staged_predict(x_nF)
        with threadpool_limits(1, "openmp"):
            kept = [stage for size, stage in enumerate(staged, 1) if size in sizes]
        if not classes:
            return np.stack(kept)[:, :, None]
        return np.stack([spread(stage, model.classes_, classes) for stage in kept])

    return predict


def _keep(classes: int, train: Examples, size: int) -> Fitted:
    """The first trees of those that `_fit` fits: one follows from those before it alone."""
    known_C = np.isin(np.arange(classes), train.y_n) if classes else np.ones(1, bool)
    if classes and known_C.sum() == 1:
        return one_class(known_C)
    told = _telling(train.x)
    model = _boosting(classes, train, told, size)
    return trees_of(model, np.flatnonzero(told) if told.any() else np.zeros(1, int), known_C)


def trees_of(model: Boosting, columns: np.ndarray, known_C: np.ndarray) -> Trees:
    """The trees of a fitted model as arrays; scikit-learn has no public way to them.

    Args:
      model: fitted, without categorical columns.
      columns: which column of the rows to predict each of the model's is.
      known_C: the classes that it knows, of all; of numbers one.
    """
    trees = [tree for step in model._predictors for tree in step]
    sizes = [len(tree.nodes) for tree in trees]
    root_T = np.cumsum([0, *sizes[:-1]])
    nodes, root_N = np.concatenate([tree.nodes for tree in trees]), np.repeat(root_T, sizes)
    is_leaf_N, own_N = nodes["is_leaf"].astype(bool), np.arange(len(nodes))
    return Trees(
        column_N=np.where(is_leaf_N, 0, columns[nodes["feature_idx"]]).astype(np.int32),
        threshold_N=np.where(is_leaf_N, 0.0, nodes["num_threshold"]),
        missing_left_N=nodes["missing_go_to_left"].astype(bool),
        left_N=np.where(is_leaf_N, own_N, root_N + nodes["left"]).astype(np.int32),
        right_N=np.where(is_leaf_N, own_N, root_N + nodes["right"]).astype(np.int32),
        value_N=nodes["value"].copy(),
        root_T=root_T.astype(np.int32),
        baseline_K=np.ravel(model._baseline_prediction).astype(np.float64),
        known_C=known_C,
    )


def _boosting(classes: int, train: Examples, told: np.ndarray, size: int) -> Boosting:
    leaf = max(2, min(20, len(train.y_n) // 20))
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    model = kind(max_iter=size, min_samples_leaf=leaf, **SETTINGS)
    with threadpool_limits(1, "openmp"):
        return model.fit(_columns(train.x, told), train.y_n, train.weights_n)


def _columns(x_nF: np.ndarray, told: np.ndarray) -> np.ndarray:
    # Nothing to split by: one column that is the same for everyone.
    return x_nF[:, told] if told.any() else np.zeros((len(x_nF), 1))


def _telling(x: np.ndarray) -> np.ndarray:
    """The columns with two known values: scikit-learn cannot cut others into bins."""
    is_known = np.isfinite(x)
    least = np.where(is_known, x, np.inf).min(axis=0)
    most = np.where(is_known, x, -np.inf).max(axis=0)
    return least < most
