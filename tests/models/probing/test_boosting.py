"""Gradient boosting on features, its choices, and its mean with another model."""

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, roc_auc_score

from models.probing.boosting import boosted
from models.probing.members import Examples
from models.probing.stack import by_validation, mean_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(900, 4))
X[::7, 1] = np.nan
TRAIN, VALID, TEST = slice(0, 500), slice(500, 700), slice(700, 900)


def fitted(y, classes, x=X):
    """What is said of the test examples."""
    rows = {"train": x[TRAIN], "valid": x[VALID], "test": x[TEST]}
    return by_validation(boosted("trees", rows, classes, 60), y[TRAIN], y[VALID], classes)["test"]


def test_what_is_not_linear_and_what_is_missing_is_learnt():
    y = ((X[:, 0] * X[:, 2] > 0) ^ np.isnan(X[:, 1])).astype(int)
    said = fitted(y, 2)
    assert said.shape == (200, 2)
    np.testing.assert_allclose(said.sum(axis=1), 1)
    assert roc_auc_score(y[TEST], said[:, 1]) > 0.9


def test_choices_are_the_first_trees_and_the_last_choice_all_of_them():
    y = (X[:, 0] > 0).astype(int)
    member = boosted("trees", {}, 2, 12)
    assert member.choices == [5, 10, 12]
    path = member.fit(Examples(X[TRAIN], y[TRAIN]), member.choices)(X[TEST])
    assert path.shape == (3, 200, 2)
    np.testing.assert_array_equal(path[:1], member.fit(Examples(X[TRAIN], y[TRAIN]), [5])(X[TEST]))


def test_noise_keeps_few_trees_and_says_about_the_shares():
    y = RNG.integers(0, 2, 900)
    said = fitted(y, 2)
    assert np.abs(said[:, 1] - y[TRAIN].mean()).mean() < 0.1


def test_numbers_are_predicted_as_numbers():
    y = 3 * np.abs(X[:, 0]) + 100
    assert mean_absolute_error(y[TEST], fitted(y, 0)[:, 0]) < 0.5


def test_a_class_that_no_training_user_has_gets_no_chance():
    y = (X[:, 0] > 0) * 2
    said = fitted(y, 4)
    assert said[:, [1, 3]].max() == 0
    assert (said.argmax(axis=1) == y[TEST]).mean() > 0.95
    alone = boosted("trees", {}, 4, 20).fit(Examples(X[TRAIN], np.full(500, 2)), [20])(X[TEST])
    np.testing.assert_array_equal(alone, np.tile([0, 0, 1, 0], (1, 200, 1)))


def test_the_mean_of_classes_is_that_of_their_log_odds_and_of_numbers_their_own():
    p, q = np.array([0.9, 0.2]), np.array([0.5, 0.4])
    mean = mean_of([np.stack([1 - each, each], 1) for each in (p, q)], 2)
    odds = np.sqrt(p / (1 - p) * q / (1 - q))
    np.testing.assert_allclose(mean[:, 1], odds / (1 + odds))
    several = mean_of([np.array([[0.7, 0.2, 0.1]]), np.array([[0.1, 0.2, 0.7]])], 3)
    assert several[0] == pytest.approx([several[0, 2], several[0, 1], several[0, 2]])
    assert mean_of([np.array([[1.0]]), np.array([[3.0]])], 0).tolist() == [[2.0]]
    weighted = mean_of([np.array([[1.0]]), np.array([[3.0]])], 0, np.array([0.25, 0.75]))
    assert weighted.tolist() == [[2.5]]


def test_columns_that_are_empty_or_all_the_same_do_no_harm():
    y = (X[:, 0] > 0).astype(int)
    dead = np.stack([np.full(900, np.nan), np.full(900, 3.0)], axis=1)
    dead[5, 1] = np.nan
    dead[800, 0] = 1.0  # known of a test user alone
    assert roc_auc_score(y[TEST], fitted(y, 2, np.hstack([dead, X]))[:, 1]) > 0.98
    np.testing.assert_allclose(fitted(y, 2, dead)[:, 1], y[TRAIN].mean(), atol=0.01)
