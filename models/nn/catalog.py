"""Catalog: the items that a softmax over all of them reads, all or, of many, a sample.

Shapes: V items, C of them that are scored, N targets or queries, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.data.packed import SPECIAL


@dataclass(frozen=True)
class Catalog:
    """The items that a softmax over all of them looks at."""

    items_CD: Tensor
    item_C: Tensor | None = None  # which they are; all, in order, where it is left out
    log_weight_C: Tensor | None = None  # of how many items each stands for

    def scores(self, query_ND: Tensor) -> Tensor:
        """Returns logits [N, C] whose sum of exponentials is, on average, that over all items."""
        logits_NC = query_ND @ self.items_CD.T
        return logits_NC if self.log_weight_C is None else logits_NC + self.log_weight_C

    def place(self, item_N: Tensor) -> Tensor:
        """The columns of items that were asked for when the catalog was read."""
        if self.item_C is None:
            return item_N
        order_C = torch.argsort(self.item_C)
        return order_C[torch.searchsorted(self.item_C[order_C], item_N)]


def sampled_items(needed_N: Tensor, items: int, most: int) -> tuple[Tensor, Tensor]:
    """Draws items that stand for all.

    Those that are needed stand for themselves, and as many others, drawn alike, for all the rest:
    the sum over all items is then right on average, and no state has to be kept. Special items are
    drawn by nobody.

    Args:
      needed_N: items that are targets, or are scored for another reason.
      items: how many there are, V.
      most: how many others are drawn.

    Returns:
      The items [C], and the logarithm of how many each stands for [C].
    """
    needed = torch.unique(needed_N)
    is_rest_V = torch.ones(items, dtype=torch.bool, device=needed.device)
    is_rest_V[: len(SPECIAL)] = False
    is_rest_V[needed] = False
    rest = torch.nonzero(is_rest_V)[:, 0]
    drawn = rest[torch.randperm(len(rest), device=rest.device)[:most]]
    item_C = torch.cat([needed, drawn])
    weight_C = torch.ones(len(item_C), device=item_C.device)
    weight_C[len(needed) :] = len(rest) / max(1, len(drawn))
    return item_C, weight_C.log()
