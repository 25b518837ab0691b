"""Buckets: sequences of almost equal length as rectangles, for what cannot run on flat events.

Attention and recurrence need a rectangle. A batch that is padded as a whole loses two thirds of its
work to slots without an event; a bucket has few of them.

Shapes: b sequences of a bucket, l their longest length, t events of them, s = b*l slots, D width.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Bucket:
    """b sequences of up to l events, as a rectangle."""

    lengths: tuple[int, ...]  # events of each sequence; some may have none
    device: torch.device

    @cached_property
    def events(self) -> int:
        """How many there are."""
        return sum(self.lengths)

    @property
    def count(self) -> int:
        """How many sequences there are."""
        return len(self.lengths)

    @cached_property
    def length(self) -> int:
        """Events of the longest sequence."""
        return max(self.lengths)

    @cached_property
    def padding(self) -> "Padding | None":
        """None where no slot is empty. Made when asked for: some kernels need no rectangle."""
        if self.events == self.count * self.length:
            return None
        real = np.arange(self.length)[None, :] < np.array(self.lengths)[:, None]
        real = real.reshape(-1)
        event = np.clip(np.cumsum(real) - 1, 0, None)
        arrays = (event, np.flatnonzero(~real), np.flatnonzero(real), real)
        # Not blocking: a GPU that is waited for has nothing to do meanwhile.
        moved = [torch.from_numpy(array).to(self.device, non_blocking=True) for array in arrays]
        return Padding(*moved)

    @property
    def real_b11l(self) -> Tensor | None:
        """True where a slot holds an event, ready to mask attention scores."""
        if self.padding is None:
            return None
        return self.padding.real.view(self.count, 1, 1, self.length)

    def to_rectangle(self, x_TD: Tensor) -> Tensor:
        """Lays the bucket's rows out as [b, l, D], zeros where there is no event."""
        if self.padding is not None:
            x_TD = _Pad.apply(x_TD, self.padding)  # type: ignore[assignment]
        return x_TD.view(self.count, self.length, *x_TD.shape[1:])

    def to_rows(self, x_blD: Tensor) -> Tensor:
        """Undoes `to_rectangle`."""
        flat = x_blD.reshape(self.count * self.length, *x_blD.shape[2:])
        if self.padding is not None:
            flat = _Unpad.apply(flat, self.padding)  # type: ignore[assignment]
        return flat


@dataclass(frozen=True)
class Padding:
    """Which of t events fills which of s = b*l slots."""

    event_s: Tensor  # any event where the slot is empty
    empty: Tensor  # the empty slots
    slot_t: Tensor
    real: Tensor  # bool [s]

    def pad(self, x_tD: Tensor) -> Tensor:
        """Events to slots, zeros where a slot is empty."""
        return x_tD.index_select(0, self.event_s).index_fill_(0, self.empty, 0)

    def unpad(self, x_sD: Tensor) -> Tensor:
        """Slots to events."""
        return x_sD.index_select(0, self.slot_t)


class _Pad(torch.autograd.Function):
    """The gradient is a gather too, so fast and deterministic; torch's own would scatter."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, padding: Padding) -> Tensor:
        ctx.padding = padding
        return padding.pad(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.padding.unpad(grads[0]), None


class _Unpad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, padding: Padding) -> Tensor:
        ctx.padding = padding
        return padding.unpad(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.padding.pad(grads[0]), None


def buckets_of(lengths: tuple[int, ...], max_padding: float, device: torch.device) -> list[Bucket]:
    """Cuts sequences, longest first, into rectangles, at most a share of whose slots is empty."""
    return [Bucket(lengths[a:b], device) for a, b in _cuts(lengths, max_padding)]


def lengths_of(buckets: list[Bucket]) -> Tensor:
    """How many events each sequence of all buckets has [B], in their order."""
    lengths = torch.tensor([length for bucket in buckets for length in bucket.lengths])
    return lengths.to(buckets[0].device, non_blocking=True)


def _cuts(lengths: tuple[int, ...], max_padding: float) -> list[tuple[int, int]]:
    """Grows each bucket, from the longest sequence on, while its padding stays within bounds."""
    cuts, first, events = [], 0, 0
    for n, length in enumerate(lengths):
        slots = lengths[first] * (n + 1 - first)
        if slots - (events + length) > max_padding * slots:
            cuts.append((first, n))
            first, events = n, 0
        events += length
    return [*cuts, (first, len(lengths))] if lengths else []
