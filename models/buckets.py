"""Buckets: sequences of almost equal length as rectangles, for what cannot run on flat events.

Attention and recurrence need a rectangle. A batch that is padded as a whole loses two thirds of its
work to slots without an event; a bucket has few of them.

Shapes: b sequences of a bucket, l their longest length, t events of them, s = b*l slots, D width.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Bucket:
    """b sequences of up to l events, as a rectangle; `padding` is None where none is needed."""

    events: int
    count: int
    length: int
    padding: "Padding | None"

    @property
    def real_b11l(self) -> Tensor | None:
        """True where a slot holds an event, ready to mask attention scores."""
        if self.padding is None:
            return None
        return self.padding.real.view(self.count, 1, 1, self.length)

    def lengths(self, device: torch.device) -> Tensor:
        """Returns how many events each sequence has [b]."""
        if self.padding is None:
            return torch.full((self.count,), self.length, device=device)
        return self.padding.real.view(self.count, self.length).sum(1)

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
    return [bucket_of(lengths[a:b], device) for a, b in _cuts(lengths, max_padding)]


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


def bucket_of(lengths: tuple[int, ...], device: torch.device) -> Bucket:
    """Returns the rectangle of sequences of these lengths, in their order; some may be 0."""
    count, longest, events = len(lengths), max(lengths), sum(lengths)
    if events == count * longest:
        return Bucket(events, count, longest, None)
    real = (np.arange(longest)[None, :] < np.array(lengths)[:, None]).reshape(-1)
    event = np.clip(np.cumsum(real) - 1, 0, None)
    arrays = (event, np.flatnonzero(~real), np.flatnonzero(real), real)
    tensors = [torch.from_numpy(array).to(device) for array in arrays]
    return Bucket(events, count, longest, Padding(*tensors))
