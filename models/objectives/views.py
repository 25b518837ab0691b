"""Views of a user: what contrastive objectives make two of, and ask to agree.

Every function takes B sequences and the random numbers of their users, and returns B sequences.
A view never holds an event that its window did not hold, so it sees nothing past the cutoff.
"""

import numpy as np
import torch
from torch import Tensor

from models.data.packed import Events
from models.data.rng import Draw


def slices(windows: Events, draw: Draw, name: str, shortest: int, longest: int) -> Events:
    """Cuts one contiguous slice of random length at a random place from each sequence.

    Lengths are uniform in [shortest, longest], as far as the sequence goes (CoLES, Babaev et al.,
    SIGMOD 2022: random slices of one user are alike, for behavior repeats itself).
    """
    lengths = windows.lengths_B.numpy()
    low, high = np.minimum(lengths, shortest), np.minimum(lengths, longest)
    taken = low + draw.integers(f"{name} length", high - low + 1)[:, 0]
    start = draw.integers(f"{name} start", lengths - taken + 1)[:, 0]
    everyone = torch.arange(len(lengths))
    return windows.cut(everyone, torch.from_numpy(start), torch.from_numpy(taken))


def hidden(view: Events, draw: Draw, name: str, share: float) -> Events:
    """Hides each event with a chance of `share`, but for one of each sequence."""
    if not share:
        return view
    lengths = view.lengths_B.numpy()
    chance_BL = draw.uniform(f"{name} hidden", int(lengths.max()))
    where_T = torch.from_numpy(chance_BL[view.sequence_T.numpy(), view.position_T.numpy()] < share)
    kept = draw.integers(f"{name} kept", lengths)[:, 0]
    where_T[view.starts_B + torch.from_numpy(kept)] = False
    return view.hide(where_T)


def reordered(view: Events, draw: Draw, name: str, share: float) -> Events:
    """Shuffles a contiguous part of each sequence, `share` of its length."""
    if not share:
        return view
    lengths = view.lengths_B.numpy()
    part = np.floor(lengths * share).astype(np.int64)
    start = draw.integers(f"{name} shuffled", lengths - part + 1)[:, 0]
    sequence, position = view.sequence_T.numpy(), view.position_T.numpy()
    first = start[sequence]
    is_inside = (position >= first) & (position < first + part[sequence])
    chance_BL = draw.uniform(f"{name} order", int(lengths.max()))
    chance = chance_BL[sequence, position]
    # Events keep their place but for those inside, which are sorted by a random number.
    index = np.arange(len(sequence))
    inside = index[is_inside]
    index[inside] = inside[np.lexsort((chance[inside], sequence[inside]))]
    return view.pick(torch.from_numpy(index), view.lengths_B, view.clock)


def cut_in_two(windows: Events, draw: Draw, longest: int) -> tuple[Events, Tensor]:
    """Cuts each history at a random place, with an event or more on either side.

    Returns:
      The past, its last `longest` events at most; and [B] where the future begins.
    """
    lengths = windows.lengths_B.numpy()
    cut_B = torch.from_numpy(1 + draw.integers("cut", lengths - 1)[:, 0])
    return before(windows, cut_B, longest), cut_B


def cut_in_time(
    windows: Events, draw: Draw, longest: int, ahead_B: Tensor
) -> tuple[Events, Tensor, Tensor]:
    """Cuts each history at a random instant, all alike, so that silence is met as it lasts.

    Args:
      windows: with a clock.
      draw: random numbers of their users.
      longest: events of the past.
      ahead_B: seconds that should be known after the instant. It lies between the first event and
        the last instant that leaves so many, or at the first event where none does.

    Returns:
      The past, an event or more up to that instant, looked at then, its last `longest` events at
      most; [B] where the future begins, if any; and the instants [B] in unix seconds.
    """
    assert windows.clock is not None
    first_B = windows.time_T[windows.starts_B]
    span_B = (windows.clock.horizon_B - ahead_B - first_B).clamp(min=0)
    chance_B = torch.from_numpy(draw.uniform("cut", 1)[:, 0])
    at_B = first_B + (chance_B * span_B.double()).long()
    is_past_T = windows.time_T <= at_B[windows.sequence_T]
    cut_B = torch.bincount(windows.sequence_T[is_past_T], minlength=len(at_B))
    return before(windows, cut_B, longest).seen_at(at_B), cut_B, at_B


def before(windows: Events, cut_B: Tensor, longest: int) -> Events:
    """The last events before a place of each sequence, at most `longest`."""
    taken_B = cut_B.clamp(max=longest)
    return windows.cut(torch.arange(len(cut_B)), cut_B - taken_B, taken_B)
