"""How long ago an event was, seen from the instant at which its sequence is looked at: "now".

A gap tells an event from the one before it; an age tells it from today, and so tells who has fallen
silent. In a task, now is the example's instant; in an embedding, its own; in pre-training, an
instant at which exactly the events of a sequence were the past: after its last event and before
what the user did next.

Shapes: T events, B sequences, N parts of them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

HIDDEN = 1  # as [MASK]
STEPS = 4  # buckets an octave
AGE_BUCKETS = 2 + 31 * STEPS  # none, hidden, then log2(seconds + 1) of up to 2^31 seconds


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


def join_clocks(clocks: list[Clock | None]) -> Clock | None:
    """Returns the clocks of all sequences, in order; none where nobody asked for them."""
    known = [clock for clock in clocks if clock is not None]
    if not known:
        return None
    if len(known) < len(clocks):
        raise ValueError("sequences with and without a clock cannot be joined")
    parts = zip(*((c.now_B, c.horizon_B, c.chance_B) for c in known), strict=True)
    return Clock(*(torch.cat(part) for part in parts))


def age_buckets(seconds_T: Tensor) -> Tensor:
    """Returns 2 + floor(4 log2(seconds + 1)), four buckets an octave; 1 means hidden."""
    whole_T = seconds_T.clamp(0, 2**31 - 2).double() + 1
    return 2 + (STEPS * whole_T.log2() + 1e-9).long()
