"""A stack: its folds, its weights, and what it may see."""

from functools import partial

import numpy as np
import pytest

from models.probing import folds
from models.probing.folds import Labels, deal_folds
from models.probing.members import Member, linear
from models.probing.stack import (
    center_of,
    crossfit,
    fit_stack,
    stack_weights,
)

RNG = np.random.default_rng(1)
N = {"train": 400, "valid": 150, "test": 200}


def planted(noise: float, classes: int = 2) -> tuple[dict, dict]:
    """Rows of which the first column tells the label, by split, and labels."""
    x = {split: RNG.normal(size=(n, 3)).astype(np.float32) for split, n in N.items()}
    told = {split: rows[:, 0] + noise * RNG.normal(size=len(rows)) for split, rows in x.items()}
    return x, {s: (t > 0).astype(np.int64) if classes else 5 * t + 20 for s, t in told.items()}


def member(x: dict, name: str = "linear", classes: int = 2) -> Member:
    return linear(name, x, classes)


def labels_of(y: dict, classes: int = 2) -> Labels:
    folds_n = deal_folds(np.arange(N["train"]), y["train"], classes)
    return Labels(y["train"], y["valid"], folds_n, classes)


def by_luck(classes: int, *_):
    """A member that says of each row what it said before, and nothing about its label."""

    def predict(rows):
        luck = np.abs(np.sin(rows[:, :1] * 1e4))
        return (np.hstack([1 - luck, luck]) if classes else 40 * luck)[None]

    return predict


def sure(y_n: np.ndarray, chance: float) -> np.ndarray:
    """Predictions that give the right class a chance."""
    return np.stack([np.where(y_n == k, chance, 1 - chance) for k in range(2)], axis=1)


def test_examples_of_one_user_are_in_one_fold_and_classes_are_in_all():
    users_n = np.repeat(np.arange(100), 3)
    y_n = (users_n < 15).astype(np.int64)
    fold_n = deal_folds(users_n, y_n, 2)
    assert all(len(set(fold_n[users_n == user])) == 1 for user in range(100))
    for y in (0, 1):
        assert np.ptp(np.bincount(fold_n[y_n == y], minlength=folds.FOLDS)) <= 3
    turned = deal_folds(users_n[::-1], y_n[::-1], 2)[::-1]
    np.testing.assert_array_equal(fold_n, turned)  # whatever the order


def test_of_many_examples_a_sample_is_dealt_and_trees_see_no_more(monkeypatch):
    monkeypatch.setattr(folds, "SAMPLE", 100)
    x, y = planted(1.0)
    labels, seen = labels_of(y), []

    def fit(train, choices):
        seen.append(len(train.y_n))
        return member(x).fit(train, choices)

    assert (labels.folds_n >= 0).sum() == 100
    crossfit(Member("linear", x, (1.0, 10.0), fit), labels)
    assert seen[0] == 400
    assert max(seen[1:]) < 90
    seen.clear()
    crossfit(Member("trees", x, (1.0, 10.0), fit, on_sample=True), labels)
    assert seen[0] == 100


def test_nobody_is_judged_by_a_model_that_was_fitted_on_them():
    x, y = planted(1.0)
    y["train"] = RNG.integers(0, 2, N["train"])  # nothing to learn but by heart

    def by_heart(train, _):
        known = {row.tobytes(): label for row, label in zip(train.x, train.y_n, strict=True)}

        def predict(rows):
            said = np.array([known.get(row.tobytes(), -1) for row in rows])
            return np.where(said[:, None] < 0, 0.5, sure(said, 0.99))[None]

        return predict

    judged = crossfit(Member("by heart", x, [0], by_heart), labels_of(y)).judged
    np.testing.assert_array_equal(judged, np.full((550, 2), 0.5))


@pytest.mark.parametrize("classes", [0, 2])
def test_no_weight_is_negative_and_a_useless_member_gets_hardly_any(classes):
    (good, y), (noise, _) = planted(0.5, classes), planted(0.5, classes)
    members = [
        member(good, "good", classes),
        Member("noise", noise, [0], partial(by_luck, classes)),
    ]
    found = fit_stack(members, labels_of(y, classes)).weights
    assert min(found.values()) >= 0
    assert found["noise"] < 0.05
    assert found["good"] > 0.8


def test_the_scale_of_a_member_is_that_of_its_right_predictions():
    y_n = np.tile([0] * 9 + [1] + [0] + [1] * 9, 50)
    right = np.tile([[0.9, 0.1]] * 10 + [[0.1, 0.9]] * 10, (50, 1))
    timid = np.sqrt(right) / np.sqrt(right).sum(axis=1, keepdims=True)  # half the log-odds
    center = center_of(y_n, 2)
    luck = sure(RNG.permutation(y_n), 0.8)
    for said, scale in ((right, 1.0), (timid, 2.0)):
        found = stack_weights([said, luck], y_n, 2, center)
        np.testing.assert_allclose(found, [scale, 0], atol=0.05)


def test_two_who_say_the_same_share_the_weight_and_order_does_not_matter():
    y_n = RNG.integers(0, 2, 60)
    one, two = sure(y_n, 0.7), sure(np.where(RNG.random(60) < 0.3, 1 - y_n, y_n), 0.7)
    same = stack_weights([one, one, two], y_n, 2, center_of(y_n, 2))
    assert same[0] == pytest.approx(same[1])
    turned = stack_weights([two, one, one], y_n, 2, center_of(y_n, 2))
    np.testing.assert_allclose(same, turned[::-1], atol=1e-4)


def test_numbers_are_weighed_by_their_absolute_errors():
    y_n = RNG.normal(100, 10, 500)
    good, far = y_n + RNG.normal(0, 1, 500), y_n + RNG.normal(0, 50, 500)
    found = stack_weights([good[:, None], far[:, None]], y_n, 0, center_of(y_n, 0))
    np.testing.assert_allclose(found, [1, 0], atol=0.05)


@pytest.mark.parametrize("classes", [0, 2])
def test_a_stack_of_one_is_that_member_and_comes_out_the_same_again(classes):
    x, y = planted(1.0, classes)
    labels, alone = labels_of(y, classes), member(x, classes=classes)
    found, single = fit_stack([alone], labels), crossfit(alone, labels)
    assert found.weights == {"linear": 1.0}
    for split, said in single.held_out.items():
        np.testing.assert_allclose(found.held_out[split], said, atol=1e-5)
    more = [alone, member(planted(1.0, classes)[0], "other", classes)]
    first, again = fit_stack(more, labels), fit_stack(more, labels)
    assert first.weights == again.weights
    np.testing.assert_array_equal(first.held_out["test"], again.held_out["test"])
