"""Stacking: cross-fitted members, and how much of each goes into their mean.

Comes in: members (`models.probing.members`) and labels. Goes out: predictions of the validation and
test examples, and weights. Labels of test users are not even given to it.

Shapes: n examples, M members, K choices of a member, C classes (1 for a number).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.probing.fitted import Fitted, softmax
from models.probing.folds import Labels
from models.probing.members import TINY, Examples, Member, losses

PULL = 30.0  # on the squared distance of the weights from their prior, against a sum of losses
ROUND = 0.01  # of the mean error: below it an error counts as its square


@dataclass(frozen=True)
class Crossfit:
    """A member's predictions of examples that it was not fitted on.

    Attributes:
      name: of the member.
      judged: of `Labels.judged_n`, [n, C].
      held_out: of validation and test examples, by split, [n, C].
      choice: of the member.
    """

    name: str
    judged: np.ndarray
    held_out: dict[str, np.ndarray]
    choice: "Choice"


@dataclass(frozen=True)
class Choice:
    """What validation users have chosen of a member.

    Attributes:
      value: one of the member's choices.
      with_earlier: it is fitted on examples of days before the as-of too, where there are some.
    """

    value: Any
    with_earlier: bool = False

    def examples(self, train: Examples) -> Examples:
        """The examples that it is fitted on, of some."""
        return train if self.with_earlier else train.newest()


def by_validation(
    member: Member,
    train_n: np.ndarray,
    valid_n: np.ndarray,
    classes: int,
    weights_n: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Fits a member, and takes the choice that does best on the validation examples.

    Whether examples of days before the as-of help is among the choices: what led to a label may
    have changed since.

    Args:
      member: with its rows.
      train_n: class indices or numbers of the training examples.
      valid_n: of the validation examples.
      classes: how many there are; 0 for a number.
      weights_n: what each training example counts (`Labeled.weights_n`).

    Returns:
      Predictions of the validation and test examples, by split, [n, C].
    """
    train = Examples(member.x["train"], train_n, weights_n)
    return _chosen(member, train, valid_n, classes)[1]


def crossfit(member: Member, labels: Labels) -> Crossfit:
    """Fits a member by validation, and with the same choice without each fold."""
    labels = labels.of(member)
    train, folds_n, judged_n = _examples(member, labels), labels.folds_n, labels.is_judged_n
    whole = _fitted_on(member, labels)
    choice, held_out = _chosen(member, whole, labels.valid_n, labels.classes)
    out_nC = np.empty((len(folds_n), held_out["valid"].shape[1]))
    for fold in np.unique(folds_n[folds_n >= 0]):
        is_out = judged_n & (folds_n == fold)
        kept = choice.examples(train.pick((folds_n >= 0) & (folds_n != fold)))
        out_nC[is_out] = member.fit(kept, [choice.value])(train.x[is_out])[0]
    judged = np.concatenate([out_nC[judged_n], held_out["valid"]])
    return Crossfit(member.name, judged, held_out, choice)


def _examples(member: Member, labels: Labels) -> Examples:
    return Examples(member.x["train"], labels.train_n, labels.weights_n)


def _fitted_on(member: Member, labels: Labels) -> Examples:
    """The training examples that a member is fitted on."""
    chosen_n = labels.folds_n >= 0 if member.on_sample else np.ones(len(labels.folds_n), bool)
    return _examples(member, labels).pick(chosen_n)


def _chosen(
    member: Member, train: Examples, valid_n: np.ndarray, classes: int
) -> tuple[Choice, dict[str, np.ndarray]]:
    """The choice with the smallest loss on the validation examples, and its predictions."""
    found = []
    for with_earlier in (False,) if train.weights_n is None else (False, True):
        predict = member.fit(train if with_earlier else train.newest(), member.choices)
        of_valid = predict(member.x["valid"])
        loss_K = losses(of_valid, valid_n, classes).mean(axis=1)
        best = int(np.argmin(loss_K))
        held_out = {"valid": of_valid[best], "test": predict(member.x["test"])[best]}
        found.append((loss_K[best], Choice(member.choices[best], with_earlier), held_out))
    return min(found, key=lambda each: each[0])[1:]


@dataclass(frozen=True)
class Stack:
    """A weighted mean of members.

    Attributes:
      weights: of the members, by name; none is negative, and they sum to about 1.
      held_out: predictions of validation and test examples, by split, [n, C].
      center_C: what their distances are weighted from.
      choices: of each member, by name.
    """

    weights: dict[str, float]
    held_out: dict[str, np.ndarray]
    center_C: np.ndarray
    choices: dict[str, Choice]


def fit_stack(members: list[Member], labels: Labels) -> Stack:
    """Fits members and their weights; a stack of one is that one."""
    found = [crossfit(member, labels) for member in members]
    center_C = center_of(labels.train_n[labels.is_newest_n], labels.classes)
    weights_M = np.ones(1)
    if len(found) > 1:
        judged = [each.judged for each in found]
        weights_M = stack_weights(judged, labels.judged_n, labels.classes, center_C)
    held_out = {}
    for split in found[0].held_out:
        predictions = [each.held_out[split] for each in found]
        held_out[split] = mean_of(predictions, labels.classes, weights_M, center_C)
    names = [each.name for each in found]
    weights = dict(zip(names, weights_M.tolist(), strict=True))
    return Stack(weights, held_out, center_C, {each.name: each.choice for each in found})


def kept_members(stack: Stack, members: list[Member], labels: Labels) -> dict[str, Fitted]:
    """The members that have a weight, fitted as those of the stack, as arrays to store."""
    kept = {}
    for member in [each for each in members if stack.weights[each.name] > 0] or members[:1]:
        assert member.keep, member.name
        choice, train = stack.choices[member.name], _fitted_on(member, labels.of(member))
        kept[member.name] = member.keep(choice.examples(train), choice.value)
    return kept


def stack_weights(
    predictions: list[np.ndarray], y_n: np.ndarray, classes: int, center_C: np.ndarray
) -> np.ndarray:
    """Weights by loss on examples that no member was fitted on; none is negative.

    First each member alone gets the scale that suits it: one that knows nothing gets none. What it
    then gains on the center, in units of log-likelihood, says how far it is trusted: weights are
    drawn towards the squares of these gains. That takes a number a member, which few examples tell;
    the weights beside each other take many, and many outweigh the pull.

    Args:
      predictions: of each member, [n, C].
      y_n: class indices or numbers.
      classes: how many there are; 0 for a number.
      center_C: what is predicted where no member has a weight, as `center_of` gives it.

    Returns:
      Weights of the members' distances from the center [M]; they sum to about 1.
    """
    from scipy.optimize import minimize  # as slow to load as all else: who predicts goes without

    x_MnC = _scores(predictions, classes) - center_C
    unit = 1.0 if classes else float(np.abs(y_n - center_C).mean()) or 1.0

    def loss(weights_M: np.ndarray, x_MnC: np.ndarray) -> tuple[float, np.ndarray]:
        mixed_nC = center_C + np.tensordot(weights_M, x_MnC, 1)
        if classes:
            gradient_nC = softmax(mixed_nC)
            total = losses(gradient_nC, y_n, classes).sum()
            gradient_nC[np.arange(len(y_n)), y_n] -= 1
        else:
            error_nC = (mixed_nC - y_n[:, None]) / unit
            smooth_nC = np.sqrt(error_nC**2 + ROUND**2)  # absolute, but for the kink at 0
            total, gradient_nC = smooth_nC.sum(), error_nC / smooth_nC / unit
        return total, np.einsum("mnc,nc->m", x_MnC, gradient_nC)

    def fit(x_MnC: np.ndarray, prior_M: np.ndarray, pull: float) -> np.ndarray:
        def objective(weights_M: np.ndarray) -> tuple[float, np.ndarray]:
            total, gradient_M = loss(weights_M, x_MnC)
            away_M = weights_M - prior_M
            penalty = pull * np.square(away_M).sum()
            return (total + penalty) / len(y_n), (gradient_M + 2 * pull * away_M) / len(y_n)

        bounds = [(0, None)] * len(prior_M)
        return minimize(objective, prior_M, jac=True, method="L-BFGS-B", bounds=bounds).x

    none, alone_M, gain_M = loss(np.zeros(len(x_MnC)), x_MnC)[0], [], []
    for x_nC in x_MnC:
        scale = fit(x_nC[None], np.ones(1), 1.0)
        alone_M.append(scale[0])
        gain_M.append(max(none - loss(scale, x_nC[None])[0], 0.0))
    trust_M, scale_M = np.square(np.array(gain_M) + 1), np.array(alone_M)
    return scale_M * fit(scale_M[:, None, None] * x_MnC, trust_M / trust_M.sum(), PULL)


def center_of(y_n: np.ndarray, classes: int) -> np.ndarray:
    """What is predicted of everybody without a model: log shares of the classes, or the median."""
    if not classes:
        return np.array([np.median(y_n)])
    return np.log(np.maximum(np.bincount(y_n, minlength=classes) / len(y_n), TINY))


def mean_of(
    predictions: list[np.ndarray],
    classes: int,
    weights_M: np.ndarray | None = None,
    center_C: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Mean of several models: of numbers as they are, of classes by their log-odds [n, C].

    Args:
      predictions: of each, [n, C].
      classes: how many there are; 0 for a number.
      weights_M: of their distances from the center; the same for all where left out.
      center_C: of no account where the weights sum to 1.
    """
    if weights_M is None:
        weights_M = np.full(len(predictions), 1 / len(predictions))
    mixed_nC = center_C + np.tensordot(weights_M, _scores(predictions, classes) - center_C, 1)
    return softmax(mixed_nC) if classes else mixed_nC


def _scores(predictions: list[np.ndarray], classes: int) -> np.ndarray:
    """Numbers, or logarithms of probabilities, that are averaged [M, n, C]."""
    x_MnC = np.stack(predictions).astype(np.float64)
    return np.log(np.clip(x_MnC, TINY, 1 - TINY)) if classes else x_MnC
