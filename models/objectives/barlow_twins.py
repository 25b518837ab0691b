"""Barlow Twins for user sequences (Liu et al., arXiv 2505.00953; loss of Zbontar et al., 2021).

Two augmented views of each user go through the encoder and a projector. Each projected dimension is
standardized over the batch; the cross-correlation of the two views' dimensions shall be the
identity:
  loss = sum_i (1 - C_ii)^2 + redundancy * sum_i sum_(j != i) C_ij^2,  C = z_a^T z_b / B.
There are no negatives. What the paper's abstract leaves open (rates, projector, weight) is an
option, with the values that measured best as defaults.

Small batches: the correlations of B users are off by about 1 / sqrt(B), and P^2 squares of that
drown what is to be learnt. So they are averaged over the last `memory_users` users, steps before
this one included; the gradient of the averaged loss goes to this step's part, undiminished. Where
batches are of so many users or more, each is its own average, the short one that ends an epoch
too: the loss as published (averaged, that one batch cost .02 AUC on ml-1m: docs/results.md). The
learning rate has to go down with the batch too (`lr_users`).

Shapes: B users, V = 2B views, D width, P projected.
"""

import torch
from torch import Tensor, nn

from contracts.recipes.methods import BarlowOptions
from models.data.packed import Events, Packed, join, pack
from models.data.rng import Draw
from models.nn.user_model import ModelConfig, UserModel
from models.objectives.base import Objective, Outcome
from models.objectives.views import hidden, reordered, slices
from models.runtime.distributed import gather

TINY = 1e-4  # a dimension that does not vary is divided by this, not by zero


class BarlowTwins(Objective):
    """Two views of a user agree in each dimension, and no dimension repeats another."""

    memory_PP: Tensor
    weight: Tensor
    largest: Tensor

    def __init__(self, model: ModelConfig, options: BarlowOptions) -> None:
        super().__init__(model, options)
        self.min_events = 2
        self.min_users = 2
        self.span = options.span
        self.projector = projector(model.dim, options.projector)
        # Of how many users earlier steps are, as they fade, and the average over them.
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64))
        # Users of the largest batch so far.
        self.register_buffer("largest", torch.zeros((), dtype=torch.int64))
        self.register_buffer("memory_PP", torch.zeros(options.projector, options.projector))

    def sample(self, windows: Events, others: Events, draw: Draw) -> Packed:  # noqa: ARG002
        """Makes two views of each user: sliced, shuffled in part, hidden in part."""
        options, views = self.options, []
        for name in "ab":
            view = slices(windows, draw, name, options.shortest, self.model_config.max_length)
            view = reordered(view, draw, name, options.reorder_share)
            views.append(hidden(view, draw, name, options.hide_share))
        return pack(join(views))

    def forward(self, model: UserModel, sample: Packed) -> Outcome:
        """Correlates the two views."""
        views_VD = model(sample)
        a_BD, b_BD = (gather(view_BD) for view_BD in views_VD.chunk(2))
        a_BP, b_BP = self.projector(torch.cat([a_BD, b_BD])).chunk(2)
        correlation_PP = self._averaged(
            standardized(a_BP).T @ standardized(b_BP) / len(a_BP), len(a_BP)
        )
        diagonal_P = correlation_PP.diagonal()
        agreement = (1 - diagonal_P).square().sum()
        overlap = correlation_PP.square().sum() - diagonal_P.square().sum()
        return Outcome(
            agreement + self.options.redundancy * overlap,
            views_VD,
            {"agreement": diagonal_P.detach().mean(), "overlap": overlap.detach()},
        )

    def _averaged(self, now_PP: Tensor, users: int) -> Tensor:
        """Averages correlations with those of earlier steps; the gradient reaches this step's."""
        if self.training:
            self.largest.clamp_(min=users)
        if max(users, int(self.largest)) >= self.options.memory_users:
            return now_PP
        earlier = max(0.0, 1 - users / self.options.memory_users) * float(self.weight)
        share = users / (users + earlier)
        averaged_PP = torch.lerp(self.memory_PP, now_PP.detach(), share)
        if self.training:
            self.memory_PP.copy_(averaged_PP)
            self.weight.fill_(users + earlier)
        return averaged_PP + (now_PP - now_PP.detach())

    def encoded_events(self, sample: Packed) -> int:
        """The events of both views."""
        return len(sample.item_T)


def projector(dim: int, width: int) -> nn.Sequential:
    """The MLP that the loss is taken behind; it is dropped after pre-training."""
    return nn.Sequential(
        nn.Linear(dim, width, bias=False),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Linear(width, width, bias=False),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Linear(width, width, bias=False),
    )


def standardized(z_BP: Tensor) -> Tensor:
    """Gives each dimension mean 0 and variance 1 over the batch."""
    centered_BP = z_BP - z_BP.mean(dim=0)
    return centered_BP / torch.sqrt(centered_BP.square().mean(dim=0) + TINY**2)
