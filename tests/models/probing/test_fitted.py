"""Fitted members as arrays predict what the models predict that they are of."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from models.probing.boosting import boosted
from models.probing.members import Examples, Member, bag, joint, linear

RNG = np.random.default_rng(0)
N, F = 700, 6
X = RNG.normal(size=(N, F))
X[::5, 1] = np.nan
X[1::7, 4] = np.nan
X[:, 5] = np.nan  # nobody has a value
X[::3, 2] = X[0, 2]  # values that fall on thresholds
SIGNAL = np.nan_to_num(X[:, 0]) * X[:, 2] + np.isnan(X[:, 1]) + 0.3 * RNG.normal(size=N)
TRAIN, TEST = slice(0, 500), slice(400, 700)


def labels(kind: str) -> tuple[np.ndarray, int]:
    """Labels, and how many classes there are; of five, none is in the classes 1 and 3."""
    ranks = np.searchsorted(np.quantile(SIGNAL, [1 / 3, 2 / 3]), SIGNAL)
    return {
        "two": ((SIGNAL > 0.3).astype(np.int64), 2),
        "five": (ranks * 2, 5),
        "two of three": ((SIGNAL > 0.3).astype(np.int64) * 2, 3),
        "one of three": (np.ones(N, np.int64), 3),
        "number": (5 * SIGNAL + 100, 0),
    }[kind]


KINDS = ["two", "five", "two of three", "one of three", "number"]


def compare(member: Member, x, y: np.ndarray, choice, atol: float = 0.0) -> None:
    """Holds what is kept of one choice against the path of all choices."""
    train = Examples(x[TRAIN], y[TRAIN])
    path = member.fit(train, member.choices)(x[TEST])
    kept = member.keep(train, choice)(x[TEST])
    assert kept.dtype == np.float64
    place = list(member.choices).index(choice) if len(path) > 1 else 0
    np.testing.assert_allclose(kept, path[place], rtol=0, atol=atol)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("choice", [5, 60])
def test_trees_are_those_of_scikit_learn_to_the_last_bit(kind, choice):
    y, classes = labels(kind)
    compare(boosted("trees", {}, classes, 60), X, y, choice)


def test_missing_values_go_their_own_way_where_nobody_had_any_before():
    y, classes = labels("two")
    x = np.nan_to_num(X)
    member, train = boosted("trees", {}, classes, 20), Examples(x[TRAIN], y[TRAIN])
    model, kept = member.fit(train, [20]), member.keep(train, 20)
    np.testing.assert_array_equal(kept(X), model(X)[0])
    assert (kept(X) != kept(x)).any()


@pytest.mark.parametrize("classes", [0, 2])
def test_trees_of_columns_that_tell_nothing_are_the_shares(classes):
    y, _ = labels("two" if classes else "number")
    for x in (np.zeros((N, 3)), np.full((N, 3), np.nan)):
        compare(boosted("trees", {}, classes, 5), x, y, 5)


def test_many_rows_go_through_the_trees_as_few_do(monkeypatch):
    y, classes = labels("five")
    kept = boosted("trees", {}, classes, 30).keep(Examples(X[TRAIN], y[TRAIN]), 30)
    whole = kept(X)
    monkeypatch.setattr("models.probing.fitted.BLOCK", 64)
    np.testing.assert_array_equal(kept(X), whole)
    assert kept(X[:0]).shape == (0, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_linear_heads_are_the_same_solution_of_the_path(kind):
    y, classes = labels(kind)
    x = np.nan_to_num(X).astype(np.float32)
    compare(linear("lr", {"train": x}, classes), x, y, 10.0, atol=1e-9)
    blocks = {"train": x[:, :2]}, {"train": x[:, 2:]}
    member = joint("joint", *blocks, classes)
    for choice in member.choices:
        compare(member, x, y, choice, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_bags_are_predicted_as_scikit_learn_does(kind):
    y, classes = labels(kind)
    rows = RNG.uniform(size=(N, 40)) * (RNG.uniform(size=(N, 40)) < 0.1)
    rows[:, 0] += SIGNAL > 0
    compare(bag("bag", {}, classes), csr_matrix(rows), y, 10.0, atol=1e-12)
