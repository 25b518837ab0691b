"""From the states of a user's events to one user vector.

Shapes: T events, B sequences, D width, A width of the attention.
"""

import torch
from torch import Tensor, nn

from models.data.packed import Packed

MAX_PADDING = 0.2  # share of the slots of rectangles in which states are added up


class MeanPooling(nn.Module):
    """The average of the states of each sequence."""

    def __init__(self, dim: int, attention: int) -> None:  # noqa: ARG002 - has no weights
        super().__init__()

    def forward(self, states_TD: Tensor, events: Packed) -> Tensor:
        """Pools states -> [B, D], in the caller's order."""
        return _sums(states_TD, events) / events.lengths_B[:, None]

    def beginnings(self, states_TD: Tensor, events: Packed, at_N: Tensor) -> Tensor:
        """Pools the states up to, and with, N events of sequences that read forwards -> [N, D]."""
        buckets = events.buckets(MAX_PADDING)
        parts = states_TD.split([bucket.events for bucket in buckets])
        sums = [b.to_rows(b.to_rectangle(x).cumsum(1)) for b, x in zip(buckets, parts, strict=True)]
        return torch.cat(sums)[at_N] / (events.position_T[at_N] + 1)[:, None]


class LastPooling(MeanPooling):
    """The state of each sequence's last event."""

    def forward(self, states_TD: Tensor, events: Packed) -> Tensor:
        """Pools states -> [B, D], in the caller's order."""
        is_last = events.position_T + 1 == events.lengths_B[events.sequence_T]
        last = torch.nonzero(is_last)[:, 0]
        order = torch.argsort(events.sequence_T[last])
        return states_TD[last[order]]

    def beginnings(self, states_TD: Tensor, events: Packed, at_N: Tensor) -> Tensor:  # noqa: ARG002
        """The states of N events -> [N, D]."""
        return states_TD[at_N]


class AttentionPooling(nn.Module):
    """Additive attention (Yang et al., NAACL 2016): a weighted average whose weights are learnt.

    weight = softmax over the sequence of v . tanh(W state + b)
    """

    def __init__(self, dim: int, attention: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, attention)
        self.score = nn.Linear(attention, 1, bias=False)  # a bias would not change the softmax

    def weights(self, states_TD: Tensor, events: Packed) -> Tensor:
        """Each event's weight, float32 [T]; those of a sequence sum to 1."""
        scores_T = self.score(torch.tanh(self.project(states_TD)))[:, 0].float()
        users, of_T = len(events.lengths_B), events.sequence_T
        top_B = scores_T.new_full((users,), float("-inf"))
        top_B = top_B.scatter_reduce(0, of_T, scores_T.detach(), "amax")
        weights_T = torch.exp(scores_T - top_B[of_T])
        return weights_T / weights_T.new_zeros(users).index_add(0, of_T, weights_T)[of_T]

    def forward(self, states_TD: Tensor, events: Packed) -> Tensor:
        """Pools states -> [B, D], in the caller's order."""
        weights_T1 = self.weights(states_TD, events)[:, None].to(states_TD.dtype)
        return _sums(weights_T1 * states_TD, events)


def _sums(x_TD: Tensor, events: Packed) -> Tensor:
    x_TD = x_TD.to(torch.promote_types(x_TD.dtype, torch.float32))  # bf16 cannot add up hundreds
    sums_BD = x_TD.new_zeros(len(events.lengths_B), x_TD.shape[1])
    return sums_BD.index_add(0, events.sequence_T, x_TD)


POOLINGS = {"mean": MeanPooling, "last": LastPooling, "attention": AttentionPooling}
