"""Events of many users laid end to end, without padding, and the arithmetic on them.

Linear layers, norms and losses run on the flat events; only what needs a rectangle (attention,
recurrence) is padded (models.data.buckets).

A gap tells an event from the one before it; an age tells it from "now", the instant at which its
sequence is looked at, and so tells who has fallen silent. In a task, now is the example's instant;
in an embedding, its own; in pre-training, an instant at which exactly the events of a sequence were
the past: after its last event and before what the user did next.

Shapes: T events of a batch, B sequences, N chosen windows.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contracts.base.errors import FootpathError
from models.data.buckets import Bucket, buckets_of

PAD, MASK, UNK = 0, 1, 2
SPECIAL = ["[PAD]", "[MASK]", "[UNK]"]  # their names
VALUE_STEPS = 32  # buckets of values above 0, and as many below
VALUE_BUCKETS = 2 * VALUE_STEPS + 1
GAP_BUCKETS = 34  # none, hidden, then floor(log2(seconds + 1)) of up to 2^31 seconds
AGE_STEPS = 4  # buckets an octave
AGE_BUCKETS = 2 + 31 * AGE_STEPS  # none, hidden, then log2(seconds + 1) of up to 2^31 seconds


@dataclass(frozen=True)
class Clock:
    """When each of B sequences is looked at. Instants are int64 unix seconds."""

    now_B: Tensor
    horizon_B: Tensor  # until then the user did nothing else, as far as is known
    chance_B: Tensor  # float64 in [0, 1]: how far now lies from the last event to the horizon

    @classmethod
    def between(cls, last_B: Tensor, horizon_B: Tensor, chance_B: Tensor) -> "Clock":
        """Sets now between the last event and the horizon, which is not before it."""
        horizon_B = torch.maximum(horizon_B, last_B)
        span_B = (horizon_B - last_B).double()
        return cls(last_B + (chance_B * span_B).long(), horizon_B, chance_B)

    @classmethod
    def at(cls, now_B: Tensor) -> "Clock":
        """Sets now to given instants, up to which all is known."""
        return cls(now_B, now_B, torch.ones(len(now_B), dtype=torch.float64))


@dataclass(frozen=True)
class Events:
    """The events of B sequences, one sequence after the other. What is hidden is [MASK]."""

    item_T: Tensor
    action_T: Tensor
    category_T: Tensor
    document_T: Tensor  # its text; 0 is none
    gap_T: Tensor  # bucket of the time since the user's event before, which is always in the past
    value_T: Tensor
    time_T: Tensor  # unix seconds: what objectives cut by; few encoders read them
    position_T: Tensor  # 0 is the first of its sequence
    lengths_B: Tensor
    clock: Clock | None = None  # where somebody asks for ages, or cuts by time
    session_T: Tensor | None = None  # which of its user's sessions, where somebody cuts by them
    summary_BF: Tensor | None = None  # of the whole history, where a model reads it

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
        session_T = None if self.session_T is None else self.session_T[index_T]
        position_T = ragged_arange(lengths_B)
        return Events(
            **picked, position_T=position_T, lengths_B=lengths_B, clock=clock, session_T=session_T
        )

    def cut(self, sequence_N: Tensor, start_N: Tensor, length_N: Tensor) -> "Events":
        """Returns N windows, each of one sequence; a sequence may give none or several.

        Each is looked at before the event that came after it, as its sequence is.
        """
        first_T = torch.repeat_interleave(self.starts_B[sequence_N] + start_N, length_N)
        clock = self._clock_of(sequence_N, start_N + length_N)
        return self.pick(first_T + ragged_arange(length_N), length_N, clock)

    def _clock_of(self, sequence_N: Tensor, ends_N: Tensor) -> Clock | None:
        """The clock of windows that end there, or nothing where the sequences have none."""
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
        """The same events, looked at then: unix seconds, not before a sequence's last."""
        return dataclasses.replace(self, clock=Clock.at(now_B))

    @property
    def age_T(self) -> Tensor | None:
        """Bucket of the time from each event to now; hidden with the event."""
        if self.clock is None:
            return None
        ages_T = age_buckets(self.clock.now_B[self.sequence_T] - self.time_T)
        return ages_T.masked_fill(self.gap_T == MASK, MASK)

    def hide(self, where_T: Tensor) -> "Events":
        """The same events with everything but the position hidden where asked."""
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


def join_clocks(clocks: list[Clock | None]) -> Clock | None:
    """The clocks of all sequences, in order; none where nobody asked for them."""
    known = [clock for clock in clocks if clock is not None]
    if not known:
        return None
    if len(known) < len(clocks):
        raise ValueError("sequences with and without a clock cannot be joined")
    parts = zip(*((c.now_B, c.horizon_B, c.chance_B) for c in known), strict=True)
    return Clock(*(torch.cat(part) for part in parts))


def join(parts: list[Events]) -> Events:
    """All sequences of the parts, in order."""
    names = [*_EVENT_FIELDS, "position_T", "lengths_B"]
    sessions = [part.session_T for part in parts if part.session_T is not None]
    return Events(
        **{name: torch.cat([getattr(part, name) for part in parts]) for name in names},
        clock=join_clocks([part.clock for part in parts]),
        session_T=torch.cat(sessions) if len(sessions) == len(parts) else None,
    )


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
    time_T: Tensor | None = None  # unix seconds; none of words
    now_B: Tensor | None = None  # in the caller's order, where windows have a clock
    age_T: Tensor | None = None
    summary_BF: Tensor | None = None  # in the caller's order; NaN where there is nothing to count

    @cached_property
    def starts_B(self) -> Tensor:
        """Where each sequence begins, in the caller's order."""
        first_B = torch.nonzero(self.position_T == 0)[:, 0]
        return torch.empty_like(first_B).scatter(0, self.sequence_T[first_B], first_B)

    @cached_property
    def asked_T(self) -> Tensor:
        """When what comes after each event is asked for: at the next event or, at last, now.

        Raises:
          FootpathError: nobody has said when the sequences are looked at.
        """
        if self.time_T is None or self.now_B is None:
            raise FootpathError(
                "the encoder reads when the next event is asked for, and the events were read "
                "without a clock: take the sequences .with_clock()"
            )
        is_last_T = self.position_T + 1 == self.lengths_B[self.sequence_T]
        return torch.where(is_last_T, self.now_B[self.sequence_T], self.time_T.roll(-1))

    def buckets(self, max_padding: float) -> list[Bucket]:
        """Cuts the sorted sequences into rectangles, at most a share of whose slots is empty."""
        return buckets_of(self.sorted_lengths, max_padding, self.item_T.device)


def pack(events: Events) -> Packed:
    """Sorts sequences by length so that neighbors make rectangles."""
    order_B = torch.sort(events.lengths_B, descending=True, stable=True).indices
    lengths = events.lengths_B[order_B]
    index_T = torch.repeat_interleave(events.starts_B[order_B], lengths) + ragged_arange(lengths)
    names = [*_EVENT_FIELDS, "position_T"]
    age_T = events.age_T
    return Packed(
        **{name: getattr(events, name)[index_T] for name in names},
        sequence_T=torch.repeat_interleave(order_B, lengths),
        lengths_B=events.lengths_B,
        sorted_lengths=tuple(lengths.tolist()),
        now_B=None if events.clock is None else events.clock.now_B,
        age_T=None if age_T is None else age_T[index_T],
        summary_BF=events.summary_BF,
    )


def gap_buckets(seconds: np.ndarray, is_first: np.ndarray) -> np.ndarray:
    """Returns 0 for a user's first event, else 2 + floor(log2(seconds + 1)); 1 means hidden.

    Buckets as in the PTUM authors' script, but to the event before: the next would tell the future.
    """
    whole = np.clip(seconds, 0, 2**31 - 2) + 1
    bucket = 2 + np.frexp(whole.astype(np.float64))[1].astype(np.int64) - 1
    return np.where(is_first, 0, bucket)


def age_buckets(seconds_T: Tensor) -> Tensor:
    """Returns 2 + floor(4 log2(seconds + 1)), four buckets an octave; 1 means hidden."""
    whole_T = seconds_T.clamp(0, 2**31 - 2).double() + 1
    return 2 + (AGE_STEPS * whole_T.log2() + 1e-9).long()


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
