from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss, roc_auc_score

from contracts.base.errors import FootpathError
from models.data.sequences import open_sequences
from models.probing.heads import FeatureScaler, fit_joint, load_head_features
from models.probing.probe import PENALTIES, fit_head, head_path


def parts_of(x, f, y, train, valid):
    """Standardizes both blocks on the training users, and cuts them into the splits."""
    z = torch.from_numpy(x - x[:train].mean(0)).float() / float(x[:train].std())
    features = FeatureScaler.of(f[:train])(f)
    cuts = (slice(0, train), slice(train, train + valid), slice(train + valid, None))
    return [(z[cut], features[cut], torch.from_numpy(y[cut])) for cut in cuts]


def test_what_only_the_features_know_is_found():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 600)
    informative = np.exp(3 * y + rng.normal(0, 1, 600))  # skewed, as counts of events are
    f = np.stack([informative, rng.random(600)], axis=1)
    train, valid, test = parts_of(rng.normal(size=(600, 20)), f, y, 200, 100)
    head = fit_joint(train, valid, 2)
    scores = head.linear(torch.cat(test[:2], dim=1)).softmax(dim=1)[:, 1]
    assert head.weights[1] > 0
    assert roc_auc_score(test[2], scores) > 0.93


@pytest.mark.parametrize("seed", range(6))
def test_features_that_say_nothing_cost_no_more_than_noise(seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, 1500)
    x = rng.normal(size=(1500, 8)) + 0.5 * y[:, None]
    train, valid, test = parts_of(x, rng.lognormal(size=(1500, 60)), y, 100, 200)
    alone = fit_head(train[::2], valid[::2], 2)(test[0]).softmax(dim=1)
    both = fit_joint(train, valid, 2).linear(torch.cat(test[:2], dim=1)).double().softmax(dim=1)
    assert roc_auc_score(test[2], both[:, 1]) > roc_auc_score(test[2], alone[:, 1]) - 0.015
    # The same penalty on both blocks, as without weights, is what would have been lost.
    naive = (
        fit_head((torch.cat(train[:2], 1), train[2]), (torch.cat(valid[:2], 1), valid[2]), 2)(
            torch.cat(test[:2], dim=1)
        )
        .double()
        .softmax(dim=1)
    )
    assert log_loss(test[2], both) <= log_loss(test[2], naive) + 0.005


def joint_weights(seed: int, helps: float, train: int = 300, valid: int = 40) -> float:
    """The weight that features get which say so much of the class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, 800)
    x = rng.normal(size=(800, 8)) + 0.4 * y[:, None]
    f = rng.normal(size=(800, 12))
    f[:, 0] += helps * y
    parts = parts_of(x, f, y, train, valid)
    return fit_joint(parts[0], parts[1], 2).weights[1]


def test_features_that_help_come_in_although_few_validation_users_can_tell():
    # By the validation users alone, and a whole standard error, 6 of 12 came in.
    assert sum(joint_weights(seed, 0.9) > 0 for seed in range(12)) >= 10


def test_features_that_say_nothing_are_left_out():
    assert sum(joint_weights(seed, 0.0) > 0 for seed in range(12)) <= 1


def test_numbers_are_predicted_from_both_blocks():
    rng = np.random.default_rng(0)
    x, f = rng.normal(size=(400, 4)), rng.normal(size=(400, 3))
    y = x[:, 0] + f[:, 0]
    train, valid, test = parts_of(x, f, y, 200, 100)
    error = (fit_joint(train, valid, 0).linear(torch.cat(test[:2], dim=1))[:, 0] - test[2]).abs()
    assert float(error.mean()) < 0.1


def test_heads_of_numbers_are_those_of_ridge_regression_with_an_intercept():
    rng = np.random.default_rng(0)
    flags = rng.random(size=(200, 1)) < 0.2
    x = np.concatenate([rng.normal(size=(200, 3)), flags], axis=1)
    y = 3 * flags[:, 0] + x[:, 0] + 5
    heads = head_path(torch.from_numpy(x), torch.from_numpy(y), 0)
    for head, penalty in zip(heads, PENALTIES, strict=True):
        expected = Ridge(alpha=penalty).fit(x, y).predict(x)
        np.testing.assert_allclose(head(torch.from_numpy(x))[:, 0], expected)


def test_a_missing_value_is_the_mean_with_a_flag_and_an_outlier_is_drawn_in():
    x = np.array([[1.0, 5.0, 7.0], [3.0, np.nan, 7.0], [5.0, 9.0, 7.0], [7.0, np.nan, 7.0]])
    scaler = FeatureScaler.of(x)
    out = scaler(x)
    assert out.shape == (4, 4)  # one column has gaps, and one flag tells of them
    assert out[:, 3].tolist() == [0, 1, 0, 1]
    assert out[1, 1] == 0
    assert (out[:, 2] == 0).all()
    assert float(out[:, 0].mean()) == pytest.approx(0, abs=1e-6)
    assert float(scaler(np.array([[1e9, 5.0, 8.0]]))[0, 0]) == 6.0


def test_the_scaler_sees_the_training_users_alone():
    x = np.random.default_rng(0).lognormal(size=(50, 3))
    scaler = FeatureScaler.of(x)
    before = scaler(x[:10])
    scaler(x * 1e6)
    assert torch.equal(scaler(x[:10]), before)


def write(path: Path, **columns) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_features_come_in_the_order_of_the_sequences(make_sequences, tmp_path):
    sequences = open_sequences(make_sequences([5, 5, 5]))
    path = write(
        tmp_path / "f.parquet",
        user_id=["user-0002", "user-0000", "stranger"],
        a=[2.0, None, 9.0],
        b=[20, 0, 90],
    )
    found = load_head_features(path, sequences)
    assert found.names == ("a", "b")
    np.testing.assert_equal(found.x_UF, [[np.nan, 0], [np.nan, np.nan], [2, 20]])


def test_a_user_who_has_none_of_a_kind_has_a_flag_and_so_has_one_who_is_not_known(
    make_sequences, tmp_path
):
    sequences = open_sequences(make_sequences([5, 5, 5]))
    path = write(
        tmp_path / "f.parquet",
        user_id=["user-0000", "user-0001"],
        hours_since_last_purchase=[3.0, None],
        events_7d=[20.0, 0.0],
    )
    known = load_head_features(path, sequences)
    x_nF = FeatureScaler.of(known.x_UF)(known.x_UF)
    assert x_nF[:, 2:].tolist() == [[0, 0], [1, 0], [1, 1]]  # of hours, of events
    assert x_nF[1:, 0].tolist() == [0, 0]


FAULTS = {
    "names a user twice": {"user_id": ["user-0000"] * 2, "a": [1.0, 2.0]},
    "column a is not numeric": {"user_id": ["user-0000"], "a": ["x"]},
    "column a holds an infinite value": {"user_id": ["user-0000"], "a": [np.inf]},
    "expected user_id and feature columns": {"user_id": ["user-0000"]},
    "knows none of the users": {"user_id": ["stranger"], "a": [1.0]},
}


@pytest.mark.parametrize("sentence", FAULTS)
def test_broken_head_features_are_refused_with_a_sentence(make_sequences, tmp_path, sentence):
    sequences = open_sequences(make_sequences([5, 5]))
    with pytest.raises(FootpathError, match=sentence):
        load_head_features(write(tmp_path / "f.parquet", **FAULTS[sentence]), sequences)
