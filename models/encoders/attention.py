"""Self-attention on packed events: a rectangle a bucket, fused, and never over padding.

Shapes: T events, b sequences of up to l events in a bucket, D width, H heads of width E.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.attention_kernels import packed_attention, runs_packed
from models.buckets import Bucket
from models.encoders.base import Attended

MAX_PADDING = 0.05  # share of the slots of the attention's rectangles


def attend(qkv: Tensor, buckets: list[Bucket], heads: int, causal: bool = False) -> Tensor:
    """Mixes the values of each sequence: queries, keys and values [T, 3D] -> [T, D]."""
    if runs_packed(qkv, heads):
        q, k, v = (part.unflatten(-1, (heads, -1)).contiguous() for part in qkv.chunk(3, dim=-1))
        lengths_B = torch.cat([bucket.lengths(qkv.device) for bucket in buckets])
        longest = max(bucket.length for bucket in buckets)
        return packed_attention(q, k, v, lengths_B, longest, causal).flatten(1)
    mixed = []
    for bucket, part in zip(buckets, qkv.split([b.events for b in buckets]), strict=True):
        q, k, v = _heads_of(bucket, part, heads)
        # Padding lies behind the events, where no event looks if it looks only back.
        real = None if causal else bucket.real_b11l
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=real, is_causal=causal)
        mixed.append(bucket.to_rows(out.transpose(1, 2).flatten(2)))
    return torch.cat(mixed)


def at(x_TD: Tensor, mixed_TD: Tensor, at_N: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns the rows of N events of both, or all rows: what a block's last half has to finish."""
    return (x_TD, mixed_TD) if at_N is None else (x_TD[at_N], mixed_TD[at_N])


def attended(qkv: Tensor, buckets: list[Bucket], heads: int, causal: bool = False) -> Attended:
    """Returns what `attend` looks at, averaged over the heads, pair by pair."""
    distances, weights = [], []
    for bucket, part in zip(buckets, qkv.split([b.events for b in buckets]), strict=True):
        q, k, _ = _heads_of(bucket, part, heads)
        scores = (q @ k.transpose(-1, -2)).float() / q.shape[-1] ** 0.5
        place_l = torch.arange(bucket.length, device=qkv.device)
        distance_ll = place_l[:, None] - place_l[None, :]
        seen = torch.ones_like(scores[:, :1], dtype=torch.bool)
        if bucket.real_b11l is not None:
            seen = seen & bucket.real_b11l & bucket.real_b11l.transpose(-1, -2)
        if causal:
            seen = seen & (distance_ll >= 0)
        # A row of padding sees nothing: its softmax is not a number, and is not among the pairs.
        weight_bll = scores.masked_fill(~seen, float("-inf")).softmax(-1).mean(1)
        weights.append(weight_bll[seen[:, 0]])
        distances.append(distance_ll.expand_as(weight_bll)[seen[:, 0]])
    return Attended(torch.cat(distances), torch.cat(weights))


def _heads_of(bucket: Bucket, qkv: Tensor, heads: int) -> list[Tensor]:
    """Lays queries, keys and values out as [b, H, l, E]."""
    parts = bucket.to_rectangle(qkv).chunk(3, dim=-1)
    return [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts]
