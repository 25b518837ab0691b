"""Losses that tell what belongs together from what does not: views, and what follows.

Shapes: N rows, V = 2N views, M what follows, U distinct ones, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def contrast(
    a_ND: Tensor, b_ND: Tensor, key_N: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Loss and accuracy of telling each of 2N views' partner from all other views.

    loss = mean over views v of -log(exp(cos(v, v+) / t) / sum over u != v of exp(cos(v, u) / t)),
    where views of other rows with the same key do not stand in the sum: they are no contrast.
    """
    count = len(a_ND)
    if count < 2:
        return 0 * (a_ND.sum() + b_ND.sum()), torch.zeros(())
    unit_VD = F.normalize(torch.cat([a_ND, b_ND]), dim=1)
    logits_VV = unit_VD @ unit_VD.T / temperature
    left_out_VV = same(key_N).repeat(2, 2)
    left_out_VV.fill_diagonal_(True)
    logits_VV = logits_VV.masked_fill(left_out_VV, float("-inf"))
    partner_V = torch.arange(2 * count, device=unit_VD.device).roll(count)
    accuracy = (logits_VV.detach().argmax(1) == partner_V).float().mean()
    return F.cross_entropy(logits_VV, partner_V), accuracy


def follow_loss(
    seen_MD: Tensor, vectors_MD: Tensor, key_M: Tensor, share_M: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss and accuracy of telling what follows from all that follows in the batch.

    loss = mean over m of -log(exp(s_m . v_m - log q_m) / sum over distinct u of exp(s_m . v_u -
    log q_u)), where q_u = 1 - (1 - share_u)^M is how likely u is among the M of a batch: what is
    frequent is met as a negative more often (Yi et al., RecSys 2019), and then s . v is the log of
    a share of all interactions, not of those of a batch.

    Args:
      seen_MD: of what is seen before each.
      vectors_MD: of what follows.
      key_M: the same number for the same interaction.
      share_M: of each among all interactions that follow.
    """
    count = len(key_M)
    if not count:
        return 0 * (seen_MD.sum() + vectors_MD.sum()), torch.zeros((), device=seen_MD.device)
    distinct_U, right_M = torch.unique(key_M, return_inverse=True)
    # The first of each, so that the same batch always takes the same.
    first_U = torch.full_like(distinct_U, count).scatter_reduce(
        0, right_M, torch.arange(count, device=key_M.device), "amin"
    )
    share_U = share_M[first_U].clamp(max=1 - 1e-9)
    met_U = -torch.expm1(count * torch.log1p(-share_U))
    logits_MU = seen_MD @ vectors_MD[first_U].T - met_U.log().to(seen_MD.dtype)
    accuracy = (logits_MU.detach().argmax(1) == right_M).float().mean()
    return F.cross_entropy(logits_MU, right_M), accuracy


def same(key_N: Tensor) -> Tensor:
    """Returns true where two different rows have one key."""
    same_NN = key_N[:, None] == key_N[None, :]
    return same_NN.fill_diagonal_(False)
