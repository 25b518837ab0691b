"""HSTU's attention (Zhai et al., ICML 2024, section 3.2): pointwise, causal, biased by time.

    a_ij = SiLU(q_i . k_j + near[i - j] + when[t_ij]) / (i + 1) where j <= i,  out_i = sum a_ij v_j

near and when are learnt, shared by all heads; t_ij is a bucket of time. No softmax: weights do not
sum to 1, so how much of a history is like the query shows. Each event divides by how many it sees,
not by the longest length: what comes later changes nothing.

torch has no fused kernel for it. Here queries go block by block, over those keys alone that they
may see, so few at a time that scores stay in the cache; none are kept for the gradient, which
makes them again. What is held of a bucket is its buckets of time, a byte a pair.

Shapes: b sequences of up to l events, g of them and r queries of a block, c keys, H heads of width
E, K buckets of time, N distances.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

TIMES = 72  # buckets of up to 2^31 seconds
STEP = 0.301  # of a bucket, in natural logarithms: as published
ROWS = 64  # queries of a block
SCORES = 1 << 16  # of a block on a CPU: they stay in its cache
SCORES_GPU = 1 << 26


def time_buckets(asked_bl: Tensor, time_bl: Tensor) -> Tensor:
    """Buckets of the time from each key to each query: unix seconds [b, l] -> uint8 [b, l, l]."""
    seconds_bll = (asked_bl[:, :, None] - time_bl[:, None, :]).float()
    return seconds_bll.clamp_(min=1).log_().div_(STEP).clamp_(max=TIMES - 1).to(torch.uint8)


def pointwise_attention(
    qkv_bl3: Tensor, heads: int, near_N: Tensor, when_K: Tensor | None, time_bll: Tensor | None
) -> Tensor:
    """Mixes the values of each sequence.

    Args:
      qkv_bl3: queries, keys and values [b, l, 3D]; slots without an event lie at the end.
      heads: H.
      near_N: bias by how many events the key lies before the query, from 0; the last of all more.
      when_K: bias by bucket of time, or nothing.
      time_bll: as `time_buckets` gives them.

    Returns:
      [b, l, D]
    """
    return _Pointwise.apply(qkv_bl3, heads, near_N, when_K, time_bll)


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, heads: int, near: Tensor, when: Any, time: Any) -> Tensor:
        ctx.save_for_backward(qkv, near, when, time)
        ctx.heads = heads
        q, k, v = _heads_of(qkv, heads)
        out = torch.empty_like(v)
        scores = _Scores(heads, near, when, time, qkv)
        for of, rows in scores.blocks():
            weights = F.silu(scores.of(q, k, of, rows), inplace=True)
            scores.causal(weights, rows)
            out[of, rows] = torch.bmm(weights, v[of, : rows.stop])
        return _joined(out.mul_(scores.share_l1), heads)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        qkv, near, when, time = ctx.saved_tensors
        heads = ctx.heads
        q, k, v = _heads_of(qkv, heads)
        scores = _Scores(heads, near, when, time, qkv)
        d_out = grads[0].unflatten(2, (heads, -1)).transpose(1, 2).flatten(0, 1) * scores.share_l1
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for of, rows in scores.blocks():
            seen = slice(0, rows.stop)
            raw, d_rows = scores.of(q, k, of, rows), d_out[of, rows]
            weights = F.silu(raw)
            scores.causal(weights, rows)
            dv[of, seen].baddbmm_(weights.transpose(1, 2), d_rows)
            d_weights = torch.bmm(d_rows, v[of, seen].transpose(1, 2))
            d_raw = torch.ops.aten.silu_backward(d_weights, raw)
            scores.causal(d_raw, rows)
            dq[of, rows] = torch.bmm(d_raw, k[of, seen])
            dk[of, seen].baddbmm_(d_raw.transpose(1, 2), q[of, rows])
            scores.learn(d_raw, of, rows)
        d_qkv = torch.cat([_joined(part, heads) for part in (dq, dk, dv)], dim=2)
        return d_qkv, None, scores.d_near(), scores.d_when, None


class _Scores:
    """The scores of a rectangle, a block at a time, and the gradients of their biases."""

    def __init__(
        self, heads: int, near: Tensor, when: Tensor | None, time: Tensor | None, qkv: Tensor
    ) -> None:
        self.heads = heads
        self.count, self.length, _ = qkv.shape
        self.is_cpu = qkv.device.type == "cpu"
        place_l = torch.arange(self.length, device=qkv.device)
        distance_ll = place_l[:, None] - place_l[None, :]
        self.distance_ll = distance_ll.clamp_(0, len(near) - 1)
        self.near_ll = near.to(qkv.dtype)[self.distance_ll]
        self.when, self.time = None if when is None else when.to(qkv.dtype), time
        self.d_near_ll = torch.zeros(self.length, self.length, device=qkv.device)
        self.d_when = None if when is None else torch.zeros_like(when)
        self.near = near
        self.share_l1 = (1 / (place_l + 1).to(qkv.dtype))[:, None]

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """Which heads of which sequences, one sequence after the other, and which queries."""
        heads, rows = self.heads, ROWS if self.is_cpu else self.length
        most = SCORES if self.is_cpu else SCORES_GPU
        for first in range(0, self.length, rows):
            last = min(self.length, first + rows)
            group = max(1, most // (heads * (last - first) * last))
            for of in range(0, self.count, group):
                yield slice(of * heads, min(self.count, of + group) * heads), slice(first, last)

    def of(self, q: Tensor, k: Tensor, of: slice, rows: slice) -> Tensor:
        """Scores of a block [gH, r, c], those of later events too."""
        seen = slice(0, rows.stop)
        raw = torch.bmm(q[of, rows], k[of, seen].transpose(1, 2))
        if self.when is None:
            return raw.add_(self.near_ll[rows, seen])
        bias = self.when.index_select(0, self._times(of, rows)).view(-1, 1, *raw.shape[1:])
        bias.add_(self.near_ll[rows, seen])
        raw.view(-1, self.heads, *raw.shape[1:]).add_(bias)
        return raw

    def causal(self, x: Tensor, rows: slice) -> None:
        """Zeroes what is of later events."""
        x[..., rows].tril_()

    def learn(self, d_raw: Tensor, of: slice, rows: slice) -> None:
        """Adds up the gradients of the biases."""
        d_raw = d_raw.float()
        if self.heads > 1:
            d_raw = d_raw.view(-1, self.heads, *d_raw.shape[1:]).sum(1)
        self.d_near_ll[rows, : rows.stop] += d_raw.sum(0)
        if self.d_when is not None:
            self.d_when += torch.bincount(self._times(of, rows), d_raw.flatten(), TIMES)

    def d_near(self) -> Tensor:
        """The gradient of the bias by distance."""
        index = self.distance_ll.flatten()
        return torch.bincount(index, self.d_near_ll.flatten(), len(self.near)).to(self.near.dtype)

    def _times(self, of: slice, rows: slice) -> Tensor:
        assert self.time is not None
        sequences = slice(of.start // self.heads, of.stop // self.heads)
        return self.time[sequences, rows, : rows.stop].int().flatten()


def _heads_of(qkv_bl3: Tensor, heads: int) -> Tensor:
    """Queries, keys and values, [3, bH, l, E]: side by side, so that products copy nothing."""
    parts = qkv_bl3.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return parts.reshape(3, -1, qkv_bl3.shape[1], parts.shape[-1])


def _joined(x: Tensor, heads: int) -> Tensor:
    """[bH, l, E] -> [b, l, D]."""
    return x.unflatten(0, (-1, heads)).transpose(1, 2).flatten(2)
