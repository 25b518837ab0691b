"""Sessions within windows, as the data set has them, and the choice of some of them.

Shapes: T events of B windows, S sessions of all of them, N chosen ones.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.data.packed import Events
from models.data.rng import Draw


@dataclass(frozen=True)
class Sessions:
    """Where the sessions of B windows lie: a run of events of one window each."""

    window_S: np.ndarray
    start_S: np.ndarray  # counted from the window's first event
    length_S: np.ndarray
    session_T: np.ndarray  # which one each event is in


def sessions_of(windows: Events) -> Sessions:
    """Cuts windows into the sessions of the data set, or what of them a window holds."""
    assert windows.session_T is not None, "an objective that cuts by sessions says so"
    session, window = windows.session_T.numpy(), windows.sequence_T.numpy()
    begins = np.ones(len(session), dtype=bool)
    begins[1:] = (np.diff(session) != 0) | (np.diff(window) > 0)
    first = np.flatnonzero(begins)
    return Sessions(
        window_S=window[first],
        start_S=windows.position_T.numpy()[first],
        length_S=np.diff(np.append(first, len(session))),
        session_T=np.cumsum(begins) - 1,
    )


def chosen_sessions(
    windows: Events, draw: Draw, shortest: int, most: int, longest: int
) -> tuple[Events, Draw, Tensor]:
    """Takes up to `most` sessions of each window, at random among those of `shortest` events.

    A window without such a session counts as one. Of a session longer than `longest` its last
    events are taken.

    Returns:
      N sessions, random numbers of their own, and [N] the window of each.
    """
    found = sessions_of(windows)
    lengths = windows.lengths_B.numpy()
    is_long = found.length_S >= shortest
    without = np.setdiff1d(np.arange(len(lengths)), found.window_S[is_long])
    window = np.concatenate([found.window_S[is_long], without])
    start = np.concatenate([found.start_S[is_long], np.zeros_like(without)])
    length = np.concatenate([found.length_S[is_long], lengths[without]])
    order = np.lexsort((start, window))
    window, start, length = window[order], start[order], length[order]
    nth = nth_of(window)
    chance_BS = draw.uniform("sessions", int(nth.max()) + 1)
    kept = np.sort(np.lexsort((chance_BS[window, nth], window))[nth < most])
    window, nth = window[kept], nth[kept]
    taken = np.minimum(length[kept], longest)
    events = windows.cut(
        torch.from_numpy(window),
        torch.from_numpy(start[kept] + length[kept] - taken),
        torch.from_numpy(taken),
    )
    # Users' rows lie far below this, so no two sessions share random numbers.
    owners = draw.users_B[window] + ((nth.astype(np.int64) + 1) << 40)
    return events, Draw(draw.seed, draw.epoch, owners), torch.from_numpy(window)


def chosen_events(
    windows: Events, draw: Draw, name: str, where_T: np.ndarray, most: int
) -> np.ndarray:
    """Up to `most` random events of each window among those asked for, in order."""
    index = np.flatnonzero(where_T)
    window, place = windows.sequence_T.numpy()[index], windows.position_T.numpy()[index]
    chance = draw.uniform(name, int(windows.lengths_B.max()))[window, place]
    order = np.lexsort((chance, window))
    return np.sort(index[order[nth_of(window[order]) < most]])


def cropped(view: Events, draw: Draw, name: str, share: float) -> Events:
    """Cuts a run of at least `share` of each sequence, at a random place."""
    lengths = view.lengths_B.numpy()
    least = np.maximum(1, np.ceil(share * lengths)).astype(np.int64)
    taken = least + draw.integers(f"{name} crop", lengths - least + 1)[:, 0]
    start = draw.integers(f"{name} crop start", lengths - taken + 1)[:, 0]
    everyone = torch.arange(len(lengths))
    return view.cut(everyone, torch.from_numpy(start), torch.from_numpy(taken))


def nth_of(sorted_window: np.ndarray) -> np.ndarray:
    """Counts from 0 within each run of equal numbers."""
    begins = np.ones(len(sorted_window), dtype=bool)
    begins[1:] = np.diff(sorted_window) != 0
    first = np.flatnonzero(begins)
    counts = np.diff(np.append(first, len(sorted_window)))
    return np.arange(len(sorted_window)) - np.repeat(first, counts)
