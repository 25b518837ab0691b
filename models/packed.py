"""Events of many users laid end to end, without padding, and the arithmetic on them.

Linear layers, norms and losses run on the flat events; only what needs a rectangle (attention,
recurrence) is padded, in buckets of almost equal length. That is where a padded batch loses two
thirds of its work.

Shapes: T events of a batch, B sequences, N chosen windows, D width, b sequences of a bucket,
l their longest length.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.age import HIDDEN, Clock, age_buckets, join_clocks

PAD, MASK, UNK = 0, 1, 2
VALUE_STEPS = 32  # buckets of values above 0, and as many below
VALUE_BUCKETS = 2 * VALUE_STEPS + 1
GAP_BUCKETS = 34  # none, hidden, then floor(log2(seconds + 1)) of up to 2^31 seconds


@dataclass(frozen=True)
class Events:
    """The events of B sequences, one sequence after the other. What is hidden is [MASK]."""

    item_T: Tensor
    action_T: Tensor
    category_T: Tensor
    document_T: Tensor  # its text; 0 is none
    gap_T: Tensor  # bucket of the time since the user's event before, which is always in the past
    value_T: Tensor
    time_T: Tensor  # unix seconds; not an input, but what objectives cut by
    position_T: Tensor  # 0 is the first of its sequence
    lengths_B: Tensor
    clock: Clock | None = None  # where somebody asks for ages, or cuts by time

    @cached_property
    def starts_B(self) -> Tensor:
        """Where each sequence begins."""
        return self.lengths_B.cumsum(0) - self.lengths_B

    @cached_property
    def sequence_T(self) -> Tensor:
        """The sequence that each event belongs to."""
        return torch.repeat_interleave(self.lengths_B)

    def pick(self, index_T: Tensor, lengths_B: Tensor, clock: Clock | None = None) -> "Events":
        """Returns chosen events as sequences of the given lengths, looked at when `clock` says."""
        picked = {name: getattr(self, name)[index_T] for name in _EVENT_FIELDS}
        position_T = ragged_arange(lengths_B)
        return Events(**picked, position_T=position_T, lengths_B=lengths_B, clock=clock)

    def cut(self, sequence_N: Tensor, start_N: Tensor, length_N: Tensor) -> "Events":
        """Returns N windows, each of one sequence; a sequence may give none or several.

        Each is looked at before the event that came after it, as its sequence is.
        """
        first_T = torch.repeat_interleave(self.starts_B[sequence_N] + start_N, length_N)
        clock = self._clock_of(sequence_N, start_N + length_N)
        return self.pick(first_T + ragged_arange(length_N), length_N, clock)

    def _clock_of(self, sequence_N: Tensor, ends_N: Tensor) -> Clock | None:
        """Returns the clock of windows that end there, or nothing where the sequences have none."""
        if self.clock is None:
            return None
        after_N = self.starts_B[sequence_N] + ends_N
        is_last_N = ends_N >= self.lengths_B[sequence_N]
        next_N = self.time_T[after_N.clamp(max=len(self.time_T) - 1)]
        return Clock.between(
            self.time_T[(after_N - 1).clamp(min=0)],
            torch.where(is_last_N, self.clock.horizon_B[sequence_N], next_N),
            self.clock.chance_B[sequence_N],
        )

    def seen_at(self, now_B: Tensor) -> "Events":
        """Returns the same events, looked at then: unix seconds, not before a sequence's last."""
        return dataclasses.replace(self, clock=Clock.at(now_B))

    @property
    def age_T(self) -> Tensor | None:
        """Bucket of the time from each event to now; hidden with the event."""
        if self.clock is None:
            return None
        ages_T = age_buckets(self.clock.now_B[self.sequence_T] - self.time_T)
        return ages_T.masked_fill(self.gap_T == MASK, HIDDEN)

    def hide(self, where_T: Tensor) -> "Events":
        """Returns the same events with everything but the position hidden where asked."""
        return dataclasses.replace(
            self,
            item_T=self.item_T.masked_fill(where_T, MASK),
            action_T=self.action_T.masked_fill(where_T, MASK),
            category_T=self.category_T.masked_fill(where_T, MASK),
            document_T=self.document_T.masked_fill(where_T, MASK),
            gap_T=self.gap_T.masked_fill(where_T, MASK),
            value_T=self.value_T.masked_fill(where_T, 0.0),
        )


_EVENT_FIELDS = (
    "item_T",
    "action_T",
    "category_T",
    "document_T",
    "gap_T",
    "value_T",
    "time_T",
)


def join(parts: list[Events]) -> Events:
    """Returns all sequences of the parts, in order."""
    names = [f.name for f in dataclasses.fields(Events) if f.name != "clock"]
    return Events(
        **{name: torch.cat([getattr(part, name) for part in parts]) for name in names},
        clock=join_clocks([part.clock for part in parts]),
    )


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


@dataclass(frozen=True)
class Packed:
    """Events ready for an encoder: its sequences sorted by length, longest first.

    `sequence_T` gives the sequence of each event in the caller's order, so what is pooled over it
    comes out in that order.
    """

    item_T: Tensor
    action_T: Tensor
    category_T: Tensor
    document_T: Tensor
    gap_T: Tensor
    value_T: Tensor
    position_T: Tensor
    sequence_T: Tensor
    lengths_B: Tensor  # in the caller's order
    sorted_lengths: tuple[int, ...]
    age_T: Tensor | None = None

    def buckets(self, max_padding: float) -> list[Bucket]:
        """Cuts the sorted sequences into rectangles, at most a share of whose slots is empty."""
        device = self.item_T.device
        cuts = _bucket_cuts(self.sorted_lengths, max_padding)
        return [_bucket(self.sorted_lengths[a:b], device) for a, b in cuts]


def pack(events: Events) -> Packed:
    """Sorts sequences by length so that neighbours make rectangles."""
    order_B = torch.sort(events.lengths_B, descending=True, stable=True).indices
    lengths = events.lengths_B[order_B]
    index_T = torch.repeat_interleave(events.starts_B[order_B], lengths) + ragged_arange(lengths)
    names = [name for name in _EVENT_FIELDS if name != "time_T"] + ["position_T"]
    age_T = events.age_T
    return Packed(
        **{name: getattr(events, name)[index_T] for name in names},
        sequence_T=torch.repeat_interleave(order_B, lengths),
        lengths_B=events.lengths_B,
        sorted_lengths=tuple(lengths.tolist()),
        age_T=None if age_T is None else age_T[index_T],
    )


def value_buckets(value_T: Tensor) -> Tensor:
    """Returns 32 + the sign of v times 2 log2(1 + |v|), rounded: two buckets an octave, 0 to 64."""
    steps_T = (2 * torch.log2(1 + value_T.abs())).round().clamp(max=VALUE_STEPS)
    return VALUE_STEPS + (value_T.sign() * steps_T).long()


def ragged_arange(lengths_B: Tensor) -> Tensor:
    """Returns 0..n-1 for each length n, laid end to end."""
    starts = lengths_B.cumsum(0) - lengths_B
    every = torch.arange(int(lengths_B.sum()), device=lengths_B.device)
    return every - torch.repeat_interleave(starts, lengths_B)


def to_device(value: Any, device: torch.device) -> Any:
    """Moves every tensor of a (nested) dataclass to a device."""
    return _changed(value, lambda tensor: tensor.to(device, non_blocking=True))


def pinned(value: Any) -> Any:
    """Puts every tensor of a (nested) dataclass where a GPU copies it from without waiting."""
    return _changed(value, Tensor.pin_memory)


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _changed(getattr(value, f.name), change) for f in _fields(value)}
        return dataclasses.replace(value, **fields)
    return value


def _fields(value: Any) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(value)


def _bucket_cuts(lengths: tuple[int, ...], max_padding: float) -> list[tuple[int, int]]:
    """Grows each bucket, from the longest sequence on, while its padding stays within bounds."""
    cuts, first, events = [], 0, 0
    for n, length in enumerate(lengths):
        slots = lengths[first] * (n + 1 - first)
        if slots - (events + length) > max_padding * slots:
            cuts.append((first, n))
            first, events = n, 0
        events += length
    return [*cuts, (first, len(lengths))] if lengths else []


def _bucket(lengths: tuple[int, ...], device: torch.device) -> Bucket:
    count, longest, events = len(lengths), lengths[0], sum(lengths)
    if events == count * longest:
        return Bucket(events, count, longest, None)
    real = (np.arange(longest)[None, :] < np.array(lengths)[:, None]).reshape(-1)
    event = np.clip(np.cumsum(real) - 1, 0, None)
    arrays = (event, np.flatnonzero(~real), np.flatnonzero(real), real)
    tensors = [torch.from_numpy(array).to(device) for array in arrays]
    return Bucket(events, count, longest, Padding(*tensors))
