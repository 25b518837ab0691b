"""Gradient boosting on features, and its mean with another model."""

import numpy as np
import pytest
from sklearn.metrics import log_loss, mean_absolute_error, roc_auc_score

from models.baselines.boosting import fit_boosting, mean_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(900, 4))
X[::7, 1] = np.nan
TRAIN, VALID, TEST = slice(0, 500), slice(500, 700), slice(700, 900)


def class_loss(y, said):
    return log_loss(y, said, labels=range(said.shape[1]))


def fitted(y, classes, loss, trees=60, x=X):
    return fit_boosting((x[TRAIN], y[TRAIN]), (x[VALID], y[VALID]), classes, loss, trees)


def test_what_is_not_linear_and_what_is_missing_is_learnt():
    y = ((X[:, 0] * X[:, 2] > 0) ^ np.isnan(X[:, 1])).astype(int)
    said = fitted(y, 2, class_loss)(X[TEST])
    assert said.shape == (200, 2)
    np.testing.assert_allclose(said.sum(axis=1), 1)
    assert roc_auc_score(y[TEST], said[:, 1]) > 0.9


def test_noise_keeps_few_trees_and_says_about_the_shares():
    y = RNG.integers(0, 2, 900)
    said = fitted(y, 2, class_loss)(X[TEST])
    assert np.abs(said[:, 1] - y[TRAIN].mean()).mean() < 0.08


def test_numbers_are_predicted_as_numbers():
    y = 3 * np.abs(X[:, 0]) + 100
    said = fitted(y, 0, lambda true, said: mean_absolute_error(true, said[:, 0]))(X[TEST])
    assert mean_absolute_error(y[TEST], said[:, 0]) < 0.5


def test_a_class_that_no_training_user_has_gets_no_chance():
    y = (X[:, 0] > 0) * 2
    said = fitted(y, 4, class_loss)(X[TEST])
    assert said[:, [1, 3]].max() == 0
    assert (said.argmax(axis=1) == y[TEST]).mean() > 0.95


def test_the_mean_of_classes_is_that_of_their_log_odds_and_of_numbers_their_own():
    p, q = np.array([0.9, 0.2]), np.array([0.5, 0.4])
    mean = mean_of([np.stack([1 - each, each], 1) for each in (p, q)], 2)
    odds = np.sqrt(p / (1 - p) * q / (1 - q))
    np.testing.assert_allclose(mean[:, 1], odds / (1 + odds))
    several = mean_of([np.array([[0.7, 0.2, 0.1]]), np.array([[0.1, 0.2, 0.7]])], 3)
    assert several[0] == pytest.approx([several[0, 2], several[0, 1], several[0, 2]])
    assert mean_of([np.array([[1.0]]), np.array([[3.0]])], 0).tolist() == [[2.0]]


def test_columns_that_are_empty_or_all_the_same_do_no_harm():
    y = (X[:, 0] > 0).astype(int)
    dead = np.stack([np.full(900, np.nan), np.full(900, 3.0)], axis=1)
    dead[5, 1] = np.nan
    dead[800, 0] = 1.0  # known of a test user alone
    said = fitted(y, 2, class_loss, x=np.hstack([dead, X]))(np.hstack([dead, X])[TEST])
    assert roc_auc_score(y[TEST], said[:, 1]) > 0.98
    alone = fitted(y, 2, class_loss, x=dead)(dead[TEST])
    np.testing.assert_allclose(alone[:, 1], y[TRAIN].mean(), atol=0.01)
