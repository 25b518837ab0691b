"""Behaviour encoder: one event -> one vector, the sum of what is known of it.

`content` is what happened (item, action, category), and is also what objectives compare a user
vector with; `forward` adds where it happened (time gap, position).
"""

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.packed import GAP_BUCKETS, Packed


@dataclass(frozen=True)
class BehaviourShape:
    """What the tables of a behaviour encoder are as large as."""

    dim: int
    max_length: int
    fields: tuple[str, ...]
    sizes: dict[str, int]  # vocabulary lengths


class BehaviourEncoder(nn.Module):
    """Sum of the embeddings of the chosen fields."""

    def __init__(self, shape: BehaviourShape) -> None:
        super().__init__()
        rows = shape.sizes | {"gap": GAP_BUCKETS, "position": shape.max_length}
        self.tables = nn.ParameterDict(
            {f: nn.Parameter(0.02 * torch.randn(rows[f], shape.dim)) for f in shape.fields}
        )

    def content(self, item: Tensor, action: Tensor, category: Tensor) -> Tensor:
        """Embeds what happened: three id tensors of one shape -> the same shape and D."""
        return self._sum({"item": item, "action": action, "category": category})

    def items(self) -> Tensor:
        """Returns the item table [V, D], without action and category."""
        return self.tables["item"]

    def forward(self, events: Packed) -> Tensor:
        """Embeds packed events -> [T, D]."""
        return self._sum(
            {
                "item": events.item_T,
                "action": events.action_T,
                "category": events.category_T,
                "gap": events.gap_T,
                "position": events.position_T,
            }
        )

    def _sum(self, ids: dict[str, Tensor]) -> Tensor:
        used = [F.embedding(ids[f], table) for f, table in self.tables.items() if f in ids]
        return functools.reduce(torch.add, used)
