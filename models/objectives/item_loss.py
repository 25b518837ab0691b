"""Softmax over all items: its loss, and its gradient in the same pass.

Logits of a few targets at a time are made, turned into the loss and into its gradient where they
lie, and forgotten: on a CPU they stay in its cache, and nothing as large as targets times items is
held for the way back.

Shapes: N targets, n of them at a time, C items that are scored, D width.
"""

from typing import Any

import torch
from torch import Tensor

from models.nn.catalog import Catalog

LOGITS = 1 << 18  # that are held at once on a CPU: 1 MB, as large as its cache
LOGITS_MOST = 8 << 20  # and on a GPU, or so that a product has a few rows
FEW = 64  # rows from which a product is as fast as it gets


def item_loss(
    query_ND: Tensor, item_N: Tensor, catalog: Catalog, chunk: int
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy and accuracy over all items.

    Args:
      query_ND: what items are compared with.
      item_N: the right ones, which the catalog was read for.
      catalog: the items.
      chunk: targets at a time; 0: by the number of items.
    """
    items_CD, place_N = catalog.items_CD, catalog.place(item_N)
    chunk = chunk or rows_at_once(len(items_CD), query_ND.device.type)
    with_gradient = torch.is_grad_enabled() and (query_ND.requires_grad or items_CD.requires_grad)
    return _ItemLoss.apply(query_ND, items_CD, place_N, catalog.log_weight_C, chunk, with_gradient)


def rows_at_once(items: int, device: str) -> int:
    """Targets whose logits of so many items are held at once."""
    most = max(1, LOGITS_MOST // items)
    return most if device != "cpu" else min(most, max(FEW, LOGITS // items))


class _ItemLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query_ND: Tensor,
        items_CD: Tensor,
        place_N: Tensor,
        log_weight_C: Tensor | None,
        chunk: int,
        with_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        count = len(place_N)
        loss, right = query_ND.new_zeros(()), query_ND.new_zeros(())
        d_query_ND, d_items_CD = torch.empty_like(query_ND), torch.zeros_like(items_CD)
        held = query_ND.new_empty(min(chunk, count), len(items_CD))
        for start in range(0, count, chunk):
            some = slice(start, min(count, start + chunk))
            query_nD, place_n1 = query_ND[some], place_N[some, None]
            logits_nC = torch.mm(query_nD, items_CD.T, out=held[: len(query_nD)])
            if log_weight_C is not None:
                logits_nC += log_weight_C
            logits_nC -= logits_nC.amax(1, keepdim=True)
            own_n1 = logits_nC.gather(1, place_n1)
            total_n1 = logits_nC.exp_().sum(1, keepdim=True)
            loss += (total_n1.log() - own_n1).sum()
            right += (own_n1 == 0).sum()
            if with_gradient:
                share_nC = logits_nC.div_(total_n1 * count)
                share_nC.scatter_add_(
                    1, place_n1, share_nC.new_full((1, 1), -1 / count).expand_as(place_n1)
                )
                torch.mm(share_nC, items_CD, out=d_query_ND[some])
                d_items_CD.addmm_(share_nC.T, query_nD)
        if with_gradient:
            ctx.save_for_backward(d_query_ND, d_items_CD)
        ctx.mark_non_differentiable(right)
        return loss / count, right / count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_query_ND, d_items_CD = ctx.saved_tensors
        return grads[0] * d_query_ND, grads[0] * d_items_CD, None, None, None, None
