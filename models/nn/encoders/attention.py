"""Self-attention on packed events: a rectangle a bucket, fused, and never over padding.

Shapes: T events, b sequences of up to l events in a bucket, D width, H heads of width E.
"""

from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from models.data.buckets import Bucket, lengths_of
from models.nn.encoders.base import Attended
from models.nn.kernels import packed_attention, runs_packed

MAX_PADDING = 0.05  # share of the slots of the attention's rectangles


def attend(qkv: Tensor, buckets: list[Bucket], heads: int, causal: bool = False) -> Tensor:
    """Mixes the values of each sequence: queries, keys and values [T, 3D] -> [T, D]."""
    if runs_packed(qkv, heads):
        q, k, v = (part.unflatten(-1, (heads, -1)).contiguous() for part in qkv.chunk(3, dim=-1))
        longest = max(bucket.length for bucket in buckets)
        return packed_attention(q, k, v, lengths_of(buckets), longest, causal).flatten(1)
    mixed = []
    for bucket, part in zip(buckets, qkv.split([b.events for b in buckets]), strict=True):
        q, k, v = _heads_of(bucket, part, heads)
        # Padding lies behind the events, where no event looks if it looks only back.
        real = None if causal else bucket.real_b11l
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=real, is_causal=causal)
        mixed.append(bucket.to_rows(out.transpose(1, 2).flatten(2)))
    return torch.cat(mixed)


def attend_at(
    qkv: Tensor, at_N: Tensor, buckets: list[Bucket], heads: int, causal: bool = False
) -> Tensor:
    """Lets N events alone, in ascending order, look at their sequences: [T, 3D] -> [N, D]."""
    if causal:  # whom an event sees depends on its place, which these rectangles do not keep
        return attend(qkv, buckets, heads, causal)[at_N]
    q_ND, kv = qkv[at_N, : qkv.shape[1] // 3], qkv[:, qkv.shape[1] // 3 :]
    lengths_B = lengths_of(buckets)
    asking_B = torch.searchsorted(at_N, lengths_B.cumsum(0)).diff(prepend=at_N.new_zeros(1))
    if len(at_N) and runs_packed(qkv, heads):
        q, k, v = (x.unflatten(-1, (heads, -1)).contiguous() for x in (q_ND, *kv.chunk(2, dim=-1)))
        longest = max(bucket.length for bucket in buckets)
        return packed_attention(q, k, v, lengths_B, longest, asking_B=asking_B).flatten(1)
    mixed, asking = [q_ND[:0]], iter(asking_B.tolist())
    queries = [Bucket(tuple(islice(asking, bucket.count)), qkv.device) for bucket in buckets]
    parts_q = q_ND.split([part.events for part in queries])
    parts_kv = kv.split([bucket.events for bucket in buckets])
    for bucket, query, part_q, part_kv in zip(buckets, queries, parts_q, parts_kv, strict=True):
        if query.events:
            (q,), (k, v) = _heads_of(query, part_q, heads, 1), _heads_of(bucket, part_kv, heads, 2)
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bucket.real_b11l)
            mixed.append(query.to_rows(out.transpose(1, 2).flatten(2)))
    return torch.cat(mixed)


def attended(qkv: Tensor, buckets: list[Bucket], heads: int, causal: bool = False) -> Attended:
    """What `attend` looks at, averaged over the heads, pair by pair."""
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


def _heads_of(bucket: Bucket, qkv: Tensor, heads: int, count: int = 3) -> list[Tensor]:
    """Lays queries, keys and values, or some of them, out as [b, H, l, E]."""
    parts = bucket.to_rectangle(qkv).chunk(count, dim=-1)
    return [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts]
