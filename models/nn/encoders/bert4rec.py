"""BERT4Rec-style user encoder: a small bidirectional Transformer (Sun et al., CIKM 2019).

Differs from the paper in normalizing before each block instead of after it, which needs no long
warm-up, and in pooling all states into one user vector.

Shapes: T events, b sequences of up to l events in a bucket, D width, H heads.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from contracts.recipes.encoders import Bert4RecOptions
from models.data.buckets import Bucket
from models.data.packed import Packed
from models.nn.encoders import base
from models.nn.encoders.attention import MAX_PADDING, attend, attend_at, attended
from models.nn.layers import Dropout


class Bert4Rec(base.UserEncoder):
    """Blocks of attention and feed-forward, then a norm."""

    def __init__(self, dim: int, options: Bert4RecOptions) -> None:
        super().__init__(dim, options)
        self.dropout = Dropout(options.dropout)
        self.blocks = nn.ModuleList([_Block(dim, options) for _ in range(options.layers)])
        self.norm = nn.LayerNorm(dim)
        self.blocks.apply(_init)

    def states(self, x_TD: Tensor, events: Packed) -> Tensor:
        """Lets every event see all others of its sequence."""
        return self._states(x_TD, events, None)

    def states_at(self, x_TD: Tensor, events: Packed, at_N: Tensor) -> Tensor:
        """Finishes the last block for N events alone."""
        return self._states(x_TD, events, at_N)

    def _states(self, x_TD: Tensor, events: Packed, at_N: Tensor | None) -> Tensor:
        buckets, last = events.buckets(MAX_PADDING), self.blocks[-1]
        x_TD = self.dropout(x_TD)
        for block in self.blocks:
            x_TD = block(x_TD, buckets, at_N if block is last else None)
        return self.norm(x_TD)

    def attention(self, x_TD: Tensor, events: Packed) -> list[base.Attended]:
        """The self-attention of each block."""
        buckets, layers = events.buckets(MAX_PADDING), []
        for block in self.blocks:
            qkv = block.project(x_TD)  # type: ignore[operator]
            layers.append(attended(qkv, buckets, self.options.heads, self.options.causal))
            x_TD = block(x_TD, buckets)
        return layers


def _init(module: nn.Module) -> None:
    """BERT's: so small that at first the sum of the events' own vectors prevails."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


class _Block(nn.Module):
    """Attention and feed-forward, each behind a norm and added to what came in."""

    def __init__(self, dim: int, options: Bert4RecOptions) -> None:
        super().__init__()
        self.heads, self.causal, self.activation = options.heads, options.causal, options.activation
        self.attention_norm, self.feedforward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.up = nn.Linear(dim, options.feedforward * dim)
        self.down = nn.Linear(options.feedforward * dim, dim)
        self.dropout = Dropout(options.dropout)

    def forward(self, x_TD: Tensor, buckets: list[Bucket], at_N: Tensor | None = None) -> Tensor:
        """Linear layers run on the packed events, or on N of them; attention alone on buckets."""
        qkv = self.project(x_TD)
        if at_N is None:
            return self.finish(x_TD, attend(qkv, buckets, self.heads, self.causal))
        return self.finish(x_TD[at_N], attend_at(qkv, at_N, buckets, self.heads, self.causal))

    def project(self, x_TD: Tensor) -> Tensor:
        """Returns queries, keys and values [T, 3D]."""
        return self.qkv(self.attention_norm(x_TD))

    def finish(self, x_TD: Tensor, mixed_TD: Tensor) -> Tensor:
        """Adds what attention has mixed, and the feed-forward layer."""
        x_TD = x_TD + self.dropout(self.out(mixed_TD))
        hidden = self.up(self.feedforward_norm(x_TD))
        active = F.relu(hidden) if self.activation == "relu" else F.gelu(hidden)
        return x_TD + self.dropout(self.down(active))
