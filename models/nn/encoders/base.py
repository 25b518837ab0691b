"""What every user encoder is: packed event vectors in, one vector a user out."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from contracts.base.errors import FootpathError
from models.data.packed import Packed
from models.nn.encoders.pooling import POOLINGS, AttentionPooling, MeanPooling


@dataclass(frozen=True)
class Attended:
    """Who looked at whom, how much: P pairs of events of one sequence.

    A distance counts events: 3 means that the event looked at lies three before the one that looks,
    -3 three after it. The weights of one looking event sum to 1.
    """

    distance_P: Tensor
    weight_P: Tensor


class UserEncoder(nn.Module):
    """Base of all encoders. A subclass has `__init__` and `states`."""

    def __init__(self, dim: int, options: Any) -> None:
        super().__init__()
        self.dim, self.options = dim, options
        self.pool = POOLINGS[options.pooling](dim, options.attention)

    def states(self, x_TD: Tensor, events: Packed) -> Tensor:
        """Puts each event in the context of its sequence: [T, D] -> [T, D]."""
        raise NotImplementedError

    def states_at(self, x_TD: Tensor, events: Packed, at_N: Tensor) -> Tensor:
        """The states of N events alone, in ascending order: [T, D] -> [N, D].

        A Transformer overrides it, for its last layer may then leave out all other events.
        """
        return self.states(x_TD, events)[at_N]

    def forward(self, x_TD: Tensor, events: Packed) -> Tensor:
        """Encodes packed event vectors -> user vectors [B, D], in the caller's order."""
        return self.pool(self.states(x_TD, events), events)

    def beginnings(self, x_TD: Tensor, events: Packed, at_N: Tensor) -> Tensor:
        """Encodes sequences up to, and with, N of their events -> [N, D], all in one pass.

        Of an encoder that reads forwards, and pools by mean or last, alone.
        """
        return self.even_pool.beginnings(self.states(x_TD, events), events, at_N)

    @property
    def even_pool(self) -> MeanPooling:
        """The pooling, where it weighs no event by others: of the beginning of a sequence too."""
        assert isinstance(self.pool, MeanPooling), "attention pooling has no beginnings"
        return self.pool

    def attention(self, x_TD: Tensor, events: Packed) -> list[Attended]:
        """The attention weights, a layer each, for a batch that is small enough to look at.

        Where events do not look at each other, the pooling may still look at them: its distances
        count from the last event.

        Raises:
          FootpathError: there is no attention in this encoder.
        """
        if not isinstance(self.pool, AttentionPooling):
            raise FootpathError(
                f"encoder {type(self).__name__.lower()} has no attention to look at: "
                "take one that has, or pooling attention"
            )
        weight_T = self.pool.weights(self.states(x_TD, events), events)
        last_T = events.lengths_B[events.sequence_T] - 1
        return [Attended(last_T - events.position_T, weight_T)]
