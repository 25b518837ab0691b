"""The modern encoder: a Transformer as language models have it today.

Norms before each block and without bias, rotary positions (Su et al., 2021), a gated feed-forward
layer (SwiGLU; Shazeer, 2020), no biases, and an option to look back only. It runs on the fused
attention of every device, which HSTU's pointwise attention (the encoder `hstu`) has not in torch.
Looking back only, the two learn next item alike on MovieLens 1M (docs/results.md), this one at 1.2
times the events a second of a CPU; HSTU reads time as well. Rotary positions tell how far apart two
events are rather than where in the window they lie, which is what random windows of a long history
need; the field `position` may then be left out. Norms are layer norms without bias, not RMSNorm,
which torch fuses on a GPU but not on a CPU, where it is slower.

Shapes: T events, D width, H heads of width E, F = E/2 frequencies.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.recipes.encoders import RotaryOptions
from models.data.buckets import Bucket
from models.data.packed import Packed
from models.nn.encoders import base
from models.nn.encoders.attention import MAX_PADDING, attend, attend_at, attended
from models.nn.layers import Dropout


class Rotary(base.UserEncoder):
    """Linear layers and rotations run on the packed events; attention alone runs on buckets."""

    def __init__(self, dim: int, options: RotaryOptions) -> None:
        super().__init__(dim, options)
        self.dropout = Dropout(options.dropout)
        self.blocks = nn.ModuleList([_Block(dim, options) for _ in range(options.layers)])
        self.norm = nn.LayerNorm(dim, bias=False)

    def states(self, x_TD: Tensor, events: Packed) -> Tensor:
        """Lets every event see all others of its sequence, or all before it."""
        return self._states(x_TD, events, None)

    def states_at(self, x_TD: Tensor, events: Packed, at_N: Tensor) -> Tensor:
        """Finishes the last block for N events alone."""
        return self._states(x_TD, events, at_N)

    def _states(self, x_TD: Tensor, events: Packed, at_N: Tensor | None) -> Tensor:
        buckets, turns, last = events.buckets(MAX_PADDING), self._turns(events), self.blocks[-1]
        x_TD = self.dropout(x_TD)
        for block in self.blocks:
            x_TD = block(x_TD, buckets, turns, at_N if block is last else None)
        return self.norm(x_TD)

    def attention(self, x_TD: Tensor, events: Packed) -> list[base.Attended]:
        """The self-attention of each block."""
        buckets, turns = events.buckets(MAX_PADDING), self._turns(events)
        heads, causal, layers = self.options.heads, self.options.causal, []
        for block in self.blocks:
            layers.append(attended(block.project(x_TD, turns), buckets, heads, causal))  # type: ignore[operator]
            x_TD = block(x_TD, buckets, turns)
        return layers

    def _turns(self, events: Packed) -> tuple[Tensor, Tensor]:
        """Returns cosine and sine of each event's rotations, [T, 1, 1, F] each."""
        half = self.dim // self.options.heads // 2
        steps = torch.arange(half, device=events.position_T.device) / half
        angle_TF = events.position_T[:, None] * self.options.base**-steps
        turns = angle_TF[:, None, None, :]
        return turns.cos(), turns.sin()


class _Block(nn.Module):
    def __init__(self, dim: int, options: RotaryOptions) -> None:
        super().__init__()
        self.heads, self.causal = options.heads, options.causal
        inner = max(8, round(2 * options.feedforward * dim / 3 / 8) * 8)
        self.attention_norm = nn.LayerNorm(dim, bias=False)
        self.feedforward_norm = nn.LayerNorm(dim, bias=False)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.up = nn.Linear(dim, 2 * inner, bias=False)  # gate and value
        self.down = nn.Linear(inner, dim, bias=False)
        self.dropout = Dropout(options.dropout)
        # BERT's: so small that at first the sum of the events' own vectors prevails.
        for layer in (self.qkv, self.out, self.up, self.down):
            nn.init.normal_(layer.weight, std=0.02)

    def forward(
        self,
        x_TD: Tensor,
        buckets: list[Bucket],
        turns: tuple[Tensor, Tensor],
        at_N: Tensor | None = None,
    ) -> Tensor:
        qkv = self.project(x_TD, turns)
        if at_N is None:
            return self.finish(x_TD, attend(qkv, buckets, self.heads, self.causal))
        return self.finish(x_TD[at_N], attend_at(qkv, at_N, buckets, self.heads, self.causal))

    def finish(self, x_TD: Tensor, mixed_TD: Tensor) -> Tensor:
        """Adds what attention has mixed, and the feed-forward layer."""
        x_TD = x_TD + self.dropout(self.out(mixed_TD))
        gate, value = self.up(self.feedforward_norm(x_TD)).chunk(2, dim=1)
        return x_TD + self.dropout(self.down(F.silu(gate) * value))

    def project(self, x_TD: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
        """Returns queries, keys and values [T, 3D], the first two rotated by their position."""
        qkv = self.qkv(self.attention_norm(x_TD))
        cos, sin = (turn.to(qkv.dtype) for turn in turns)
        a, b = qkv[:, : 2 * x_TD.shape[1]].view(len(qkv), 2, self.heads, -1).chunk(2, dim=-1)
        rotated = torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
        return torch.cat([rotated.flatten(1), qkv[:, 2 * x_TD.shape[1] :]], dim=1)
