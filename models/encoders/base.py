"""What every user encoder is: packed event vectors in, one vector a user out."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from models.packed import Packed


@dataclass(frozen=True)
class Options:
    """Options that every encoder has; an encoder's own `Options` extend them."""

    dropout: float = 0.1
    pooling: str = "mean"  # of the states of a user: mean or last

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling '{self.pooling}' is none of {', '.join(POOLINGS)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is not a share in [0, 1)")


class UserEncoder(nn.Module):
    """Base of all encoders. A subclass says `options_class`, `__init__` and `states`."""

    options_class: ClassVar[type[Any]] = Options

    def __init__(self, dim: int, options: Any) -> None:
        super().__init__()
        self.dim, self.options = dim, options

    @property
    def is_causal(self) -> bool:
        """Tells whether no event sees a later one, as predicting the next one needs."""
        return False

    def states(self, x_TD: Tensor, events: Packed) -> Tensor:
        """Puts each event in the context of its sequence: [T, D] -> [T, D]."""
        raise NotImplementedError

    def forward(self, x_TD: Tensor, events: Packed) -> Tensor:
        """Encodes packed event vectors -> user vectors [B, D], in the caller's order."""
        return POOLINGS[self.options.pooling](self.states(x_TD, events), events)


def mean_pooling(states_TD: Tensor, events: Packed) -> Tensor:
    """Averages the states of each sequence -> [B, D]."""
    sums = states_TD.new_zeros(len(events.lengths_B), states_TD.shape[1])
    sums = sums.index_add(0, events.sequence_T, states_TD)
    return sums / events.lengths_B[:, None].to(states_TD.dtype)


def last_pooling(states_TD: Tensor, events: Packed) -> Tensor:
    """Takes the state of each sequence's last event -> [B, D]."""
    is_last = events.position_T + 1 == events.lengths_B[events.sequence_T]
    last = torch.nonzero(is_last)[:, 0]
    order = torch.argsort(events.sequence_T[last])
    return states_TD[last[order]]


POOLINGS = {"mean": mean_pooling, "last": last_pooling}
