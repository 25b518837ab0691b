"""Linear heads on frozen user vectors: logistic regression and ridge, penalty chosen on validation.

The same head starts fine-tuning (linear probing, then fine-tuning: Kumar et al., ICLR 2022): a new
head fails on vectors whose spread is small against their mean.

Shapes: n users, D width, C classes (1 for regression).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.data.labels import Task

PENALTIES = (1e-1, 1.0, 10.0, 100.0, 1000.0)  # on half the squared weights, against a sum of losses


@dataclass(frozen=True)
class Standardizer:
    """Mean of each dimension over the training users, and one scale for them all.

    What differs most between users is what pre-training found to matter most, and a penalty on the
    weights trusts it more: that is worth up to .01 where labels are few (docs/results.md). A scale
    for each dimension would have all of them trusted alike.
    """

    mean_D: Tensor
    scale_D: Tensor  # the same everywhere

    @classmethod
    def of(cls, x_nD: Tensor) -> "Standardizer":
        """Measures vectors; where none differs from another, or none is, they keep their scale."""
        if not len(x_nD):
            return cls(x_nD.new_zeros(x_nD.shape[1]), x_nD.new_ones(x_nD.shape[1]))
        scale = x_nD.var(dim=0, correction=0).mean().sqrt()
        scale = scale if scale > 1e-6 else torch.ones_like(scale)
        return cls(x_nD.mean(dim=0), scale.expand(x_nD.shape[1]))

    def __call__(self, x: Tensor) -> Tensor:
        """The dimensions mean 0, and spread 1 on average, over the training users."""
        return (x - self.mean_D) / self.scale_D


@dataclass(frozen=True)
class Linear:
    """A head: scores = x W^T + b. Class scores are logits."""

    weight_CD: Tensor
    bias_C: Tensor

    def __call__(self, x_nD: Tensor) -> Tensor:
        """Scores vectors -> [n, C]."""
        return F.linear(x_nD, self.weight_CD, self.bias_C)


@dataclass(frozen=True)
class Scale:
    """Puts numbers to predict on a common scale; class indices stay as they are."""

    center: float
    spread: float

    @classmethod
    def of(cls, task: Task, y_n: np.ndarray) -> "Scale":
        """Measures the numbers of the training users."""
        if task.is_classification:
            return cls(0.0, 1.0)
        return cls(float(y_n.mean()), float(y_n.std()) or 1.0)

    def targets(self, y_n: np.ndarray) -> Tensor:
        """Returns class indices (int64 [n]) or standardized numbers (float64 [n])."""
        return torch.from_numpy(y_n if y_n.dtype == np.int64 else (y_n - self.center) / self.spread)

    def predictions(self, scores_nC: Tensor, is_classification: bool) -> np.ndarray:
        """Returns class probabilities [n, C], or numbers [n, 1] in their own unit."""
        if is_classification:
            return scores_nC.double().softmax(dim=1).numpy()
        return scores_nC.double().numpy() * self.spread + self.center


def fit_head(train: tuple[Tensor, Tensor], valid: tuple[Tensor, Tensor], classes: int) -> Linear:
    """Fits a head on the training users, with the penalty that does best on the others.

    Args:
      train: standardized vectors [n, D], and targets [n].
      valid: the same of the validation users.
      classes: how many there are; 0 for a number.
    """
    return best_head(head_path(*train, classes), *valid)[0]


def head_path(
    x_nD: Tensor,
    targets_n: Tensor,
    classes: int,
    penalties: Sequence[float] = PENALTIES,
    weights_n: np.ndarray | None = None,
) -> list[Linear]:
    """Fits a head for every penalty, in float64; in the order of the penalties, which rise.

    The sum of losses that a penalty is set against is weighted, where examples have weights.
    """
    x_nD = x_nD.double()
    if classes == 2 and x_nD.shape[1] and len(targets_n.unique()) == 2:
        return _binary(x_nD, targets_n, penalties, weights_n)
    if classes:
        return _logistic(x_nD, targets_n, classes, penalties, weights_n)
    return _ridge(x_nD, targets_n, penalties, weights_n)


def best_head(heads: list[Linear], x_nD: Tensor, targets_n: Tensor) -> tuple[Linear, int]:
    """The head with the smallest loss on some users, in float32, and which it is."""
    losses = [float(task_loss(head(x_nD.double()), targets_n)) for head in heads]
    best = int(np.argmin(losses))
    return Linear(heads[best].weight_CD.float(), heads[best].bias_C.float()), best


def task_loss(scores_nC: Tensor, targets_n: Tensor, weights_n: np.ndarray | None = None) -> Tensor:
    """Cross-entropy for classes, mean absolute error for numbers; each loss times its weight."""
    losses_n = example_losses(scores_nC, targets_n)
    return (losses_n if weights_n is None else losses_n * _as(losses_n, weights_n)).mean()


def example_losses(scores_nC: Tensor, targets_n: Tensor) -> Tensor:
    """The loss of each example, whose mean is `task_loss`."""
    if targets_n.is_floating_point():
        return (scores_nC[:, 0] - targets_n.to(scores_nC.dtype)).abs()
    return F.cross_entropy(scores_nC, targets_n, reduction="none")


def _binary(
    x_nD: Tensor, y_n: Tensor, penalties: Sequence[float], weights_n: np.ndarray | None
) -> list[Linear]:
    """What `_logistic` gives for two classes, by Newton's method: 3 to 5 times as fast."""
    # It loads for a second: who only reads a head goes without.
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(solver="newton-cholesky", warm_start=True)
    heads = []
    for penalty in sorted(penalties, reverse=True):  # each solution starts the next
        # One score, of which the two classes have half each, of opposite signs.
        model.set_params(C=2 / penalty).fit(x_nD.numpy(), y_n.numpy(), weights_n)
        weight_D = torch.from_numpy(model.coef_[0] / 2)
        bias = float(np.atleast_1d(model.intercept_)[0]) / 2
        heads.append(Linear(torch.stack([-weight_D, weight_D]), x_nD.new_tensor([-bias, bias])))
    return heads[::-1]


def _logistic(
    x_nD: Tensor,
    y_n: Tensor,
    classes: int,
    penalties: Sequence[float],
    weights_n: np.ndarray | None,
) -> list[Linear]:
    weight = torch.zeros(classes, x_nD.shape[1], dtype=x_nD.dtype, requires_grad=True)
    bias = torch.zeros(classes, dtype=x_nD.dtype, requires_grad=True)
    heads = []
    for penalty in sorted(penalties, reverse=True):  # each solution starts the next
        optimizer = torch.optim.LBFGS(
            [weight, bias],
            max_iter=100,
            tolerance_grad=1e-5,
            tolerance_change=1e-6,
            line_search_fn="strong_wolfe",
        )

        def closure(optimizer=optimizer, penalty=penalty) -> Tensor:
            optimizer.zero_grad()
            loss = task_loss(F.linear(x_nD, weight, bias), y_n, weights_n)
            loss = loss + penalty / (2 * len(x_nD)) * weight.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)  # type: ignore[arg-type]
        heads.append(Linear(weight.detach().clone(), bias.detach().clone()))
    return heads[::-1]


def _ridge(
    x_nD: Tensor, y_n: Tensor, penalties: Sequence[float], weights_n: np.ndarray | None
) -> list[Linear]:
    # Not every column has mean 0: the flag of a missing value has not.
    if weights_n is None:
        mean_D, centre = x_nD.mean(dim=0), y_n.mean()
        centered_nD = weighted_nD = x_nD - mean_D
    else:
        weight_n = _as(x_nD, weights_n)
        mean_D, centre = (weight_n @ x / weight_n.sum() for x in (x_nD, y_n))
        centered_nD = x_nD - mean_D
        weighted_nD = centered_nD * weight_n[:, None]
    gram, moment = weighted_nD.T @ centered_nD, weighted_nD.T @ (y_n - centre)
    eye = torch.eye(len(gram), dtype=gram.dtype)
    solved = [torch.linalg.solve(gram + penalty * eye, moment) for penalty in sorted(penalties)]
    return [Linear(weight[None, :], (centre - mean_D @ weight)[None]) for weight in solved]


def _as(like: Tensor, weights_n: np.ndarray) -> Tensor:
    return torch.from_numpy(weights_n).to(like)
