"""Early stopping without labels: the method's own loss on users who are held out of training."""

import math

import numpy as np
import torch
from torch import Tensor

from contracts.base.errors import FootpathError
from contracts.recipes.recipe import EarlyStopping
from models.data.packed import to_device
from models.data.rng import Draw
from models.data.sequences import Sequences
from models.nn.user_model import UserModel
from models.objectives.base import Objective

MOST = 4000  # users that judge
DRAWS = 2  # samples of each of them
EPOCH = 1 << 30  # of the draws: none that training comes to


class HeldOutLoss:
    """Mean loss over held-out users, of the same samples each time: the `Judge` of a trainer."""

    fingerprint = ""  # it reads no labels

    def __init__(
        self,
        stopping: EarlyStopping,
        sequences: Sequences,
        users_U: np.ndarray,
        objective: Objective,
        batch_size: int,
    ) -> None:
        """Takes the users who judge.

        Args:
          stopping: how often, and for how long.
          sequences: of all users.
          users_U: those held out.
          objective: whose loss.
          batch_size: of users that are compared with each other.
        """
        self.stopping, self.objective = stopping, objective
        users_U = users_U[:MOST]
        batches = [users_U[n : n + batch_size] for n in range(0, len(users_U), batch_size)]
        draws = [Draw(0, EPOCH + nth, batch) for nth in range(DRAWS) for batch in batches]
        draws = [draw for draw in draws if len(draw.users_B) >= objective.min_users]
        self.samples = [objective.read(sequences, draw) for draw in draws]
        self.weights = [len(draw.users_B) for draw in draws]

    def is_due(self, epochs: int, planned: int) -> bool:
        """Whether to judge after so many epochs; always after the last."""
        return epochs % self.stopping.every_epochs == 0 or epochs == planned

    @torch.no_grad()
    def loss(self, model: UserModel) -> float:
        """Mean loss of the held-out users; model and objective are left in evaluation mode."""
        model.eval()
        self.objective.eval()
        device = next(model.parameters()).device
        losses = []
        for nth, sample in enumerate(self.samples):
            torch.manual_seed(nth)  # of the items that stand for all, the same ones each time
            losses.append(float(self.objective(model, to_device(sample, device)).loss))
        loss = float(np.average(losses, weights=self.weights))
        if not math.isfinite(loss):
            raise FootpathError(f"early stopping: the loss of the held-out users is {loss}")
        return loss

    def is_over(self, losses_E: Tensor) -> bool:
        """Whether the last `patience` judgments brought nothing better."""
        return is_over(losses_E, self.stopping.patience)


def is_over(losses_E: Tensor, patience: int) -> bool:
    """Whether the last judgments brought nothing better; what was not measured is not a number."""
    losses = losses_E[~losses_E.isnan()]
    return len(losses) > 0 and len(losses) - 1 - int(losses.argmin()) >= patience


def parted(users_U: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Parts users into those who are trained on and those held out, by a hash of their rows."""
    is_out_U = Draw(0, 0, users_U).uniform("held out", 1)[:, 0] < share
    return users_U[~is_out_U], users_U[is_out_U]
