"""HSTU: gated blocks of pointwise attention (Zhai et al., ICML 2024, equations 1 to 3).

    u, q, k, v = SiLU(W LayerNorm(x)),   x + O (u * LayerNorm(attention(q, k, v)))

Attention is pointwise, and depends on how many events, and how much time, lie between two
(models.nn.encoders.pointwise). The gate u takes the place of a feed-forward layer. As in Meta's
code queries and keys are not scaled.

Time counts from the event that is looked at to the one that looks or, with `query_time`, to when
what comes next is asked for.

Shapes: T events, D width, H heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.base.errors import FootpathError
from contracts.recipes.encoders import HstuOptions
from models.data.buckets import Bucket
from models.data.packed import Packed
from models.nn.encoders import base
from models.nn.encoders.attention import MAX_PADDING
from models.nn.encoders.pointwise import TIMES, pointwise_attention, time_buckets
from models.nn.layers import Dropout


class Hstu(base.UserEncoder):
    """Linear layers run on the packed events; attention alone runs on buckets."""

    def __init__(self, dim: int, options: HstuOptions) -> None:
        super().__init__(dim, options)
        self.dropout = Dropout(options.dropout)
        self.blocks = nn.ModuleList([_Block(dim, options) for _ in range(options.layers)])
        self.norm = nn.LayerNorm(dim, bias=False)

    def states(self, x_TD: Tensor, events: Packed) -> Tensor:
        """Lets every event see those before it."""
        buckets = events.buckets(MAX_PADDING)
        times = self._times(events, buckets)
        x_TD = self.dropout(x_TD)
        for block in self.blocks:
            x_TD = block(x_TD, buckets, times)
        return self.norm(x_TD)

    def _times(self, events: Packed, buckets: list[Bucket]) -> list[Tensor | None]:
        """Buckets of the time between all events of each rectangle, shared by all blocks."""
        if not self.options.time:
            return [None] * len(buckets)
        if events.time_T is None:
            raise FootpathError("encoder hstu reads times, and words have none: set encoder.time")
        asked_T = events.asked_T if self.options.query_time else events.time_T
        sizes = [bucket.events for bucket in buckets]
        parts = zip(buckets, asked_T.split(sizes), events.time_T.split(sizes), strict=True)
        return [time_buckets(b.to_rectangle(asked), b.to_rectangle(at)) for b, asked, at in parts]


class _Block(nn.Module):
    def __init__(self, dim: int, options: HstuOptions) -> None:
        super().__init__()
        self.heads = options.heads
        self.norm = nn.LayerNorm(dim)
        self.mixed_norm = nn.LayerNorm(dim)
        self.uqkv = nn.Linear(dim, 4 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.dropout = Dropout(options.dropout)
        self.near = nn.Parameter(0.02 * torch.randn(options.distances))
        self.when = nn.Parameter(0.02 * torch.randn(TIMES)) if options.time else None
        # So small that at first the sum of the events' own vectors prevails: learns faster.
        for layer in (self.uqkv, self.out):
            nn.init.normal_(layer.weight, std=0.02)

    def forward(self, x_TD: Tensor, buckets: list[Bucket], times: list[Tensor | None]) -> Tensor:
        u_TD, qkv = self.project(x_TD)
        mixed = []
        parts = qkv.split([bucket.events for bucket in buckets])
        for bucket, part, time in zip(buckets, parts, times, strict=True):
            qkv_bl3 = bucket.to_rectangle(part)
            out = pointwise_attention(qkv_bl3, self.heads, self.near, self.when, time)
            mixed.append(bucket.to_rows(out))
        return self.finish(x_TD, u_TD, torch.cat(mixed))

    def project(self, x_TD: Tensor) -> tuple[Tensor, Tensor]:
        """Returns gates [T, D], and queries, keys and values [T, 3D]."""
        uqkv = F.silu(self.uqkv(self.norm(x_TD)))
        return uqkv[:, : x_TD.shape[1]], uqkv[:, x_TD.shape[1] :]

    def finish(self, x_TD: Tensor, u_TD: Tensor, mixed_TD: Tensor) -> Tensor:
        """Adds what attention has mixed, as far as the gates let it."""
        return x_TD + self.out(self.dropout(u_TD * self.mixed_norm(mixed_TD)))
