"""Catalog: the items that a softmax over all of them reads, all or, of many, a sample.

Shapes: V items, C of them that are scored, N targets or queries, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.data.packed import SPECIAL

MANY = 16  # times as many items as are drawn, from which drawing twice is rare


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


def catalog_of(items_VD: Tensor, needed_N: Tensor, most: int) -> Catalog:
    """The items that are needed and `most` others that stand for the rest; all, where it is 0."""
    if not most:
        return Catalog(items_VD)
    item_C, log_weight_C = sampled_items(needed_N, len(items_VD), most)
    return Catalog(items_VD[item_C], item_C, log_weight_C)


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
    special = torch.arange(len(SPECIAL), device=needed.device)
    taken = torch.unique(torch.cat([special, needed]))
    rest = items - len(taken)
    drawn = _skipping(taken, _distinct(rest, most, needed.device))
    item_C = torch.cat([needed, drawn])
    weight_C = torch.ones(len(item_C), device=item_C.device)
    weight_C[len(needed) :] = rest / max(1, len(drawn))
    return item_C, weight_C.log()


def _distinct(count: int, most: int, device: torch.device) -> Tensor:
    """Different numbers below `count`, every such set of a size as likely: `most`, or a few less.

    Of many, a number that is drawn twice is dropped, for a permutation would grow with them.
    """
    if count <= MANY * most:
        return torch.randperm(count, device=device)[:most]
    return torch.randint(count, (most,), device=device).unique()


def _skipping(taken: Tensor, nth: Tensor) -> Tensor:
    """The nth of the items that are not taken, which are in ascending order."""
    before = taken - torch.arange(len(taken), device=taken.device)  # free ones below each
    return nth + torch.searchsorted(before, nth, right=True)
