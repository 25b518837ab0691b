"""Histograms that fit any number, are small, and can be added up: what profiles and drift keep.

A bin is an eighth of an octave, about 9 % wide, on either side of zero, and zero is a bin of its
own: bins depend on no data, so that those of different days can be compared and joined. Quantiles
and distances are computed from bins alone.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

PER_OCTAVE = 8
# Above any |floor(log2(v) * PER_OCTAVE)|, so that the sign of a bin is the sign of its numbers.
MIDDLE = 10_000

Bins = Mapping[int, int]  # bin -> rows


def bin_of(number: str) -> str:
    """Returns the SQL of a number's bin; null for null."""
    return (
        # A number that is none fits no bin; its row is refused anyway.
        f"CASE WHEN {number} = 0 THEN 0 ELSE TRY_CAST(sign({number}) * "
        f"({MIDDLE} + floor(log2(abs({number})) * {PER_OCTAVE})) AS INTEGER) END"
    )


def middle_of(bins: np.ndarray) -> np.ndarray:
    """Returns a number in the middle of each bin."""
    size = np.exp2((np.abs(bins) - MIDDLE + 0.5) / PER_OCTAVE)
    return np.where(bins == 0, 0.0, np.sign(bins) * size)


def quantiles(bins: Bins, shares: Iterable[float]) -> np.ndarray:
    """Returns quantiles, to the width of a bin; NaN if there are no rows."""
    shares = np.asarray(list(shares))
    if not bins:
        return np.full(len(shares), np.nan)
    places = np.array(sorted(bins))
    upto = np.cumsum([bins[int(place)] for place in places])
    return middle_of(places)[np.searchsorted(upto, shares * upto[-1]).clip(0, len(places) - 1)]


def added(parts: Iterable[Mapping]) -> Counter:
    """Adds up counts by key."""
    total: Counter = Counter()
    for part in parts:
        total.update(part)
    return total


def distances(day: Mapping, before: Sequence[Mapping]) -> tuple[float, np.ndarray]:
    """Returns Jensen-Shannon distances, in [0, 1], of days that have rows.

    Returns:
      That of a day from the days before put together; that of each of these from the others.
    """
    keys = sorted({key for counts in (day, *before) for key in counts})
    now = np.array([day.get(key, 0) for key in keys], float)
    # One row a day, one column a key.
    past = np.array([[counts.get(key, 0) for key in keys] for counts in before], float)
    total = past.sum(axis=0)
    return float(_distance(now, total)), _distance(past, total - past)


def _distance(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Returns the Jensen-Shannon distance of counts, along the last axis."""
    p, q = (x / np.maximum(x.sum(axis=-1, keepdims=True), 1) for x in (p, q))
    middle = np.maximum((p + q) / 2, 1e-300)
    divergence = sum(
        (x * np.log2(np.where(x > 0, x / middle, 1.0))).sum(axis=-1) / 2 for x in (p, q)
    )
    return np.sqrt(np.clip(divergence, 0, 1))


def stability(day: Bins, reference: Bins, groups: int = 10) -> float:
    """Returns the population stability index over quantile groups of the reference.

    Bins are put together to at most `groups` groups of about equally many reference rows. Half a
    row is added to each group, so that an empty one does not make the index infinite.
    """
    places = sorted(day.keys() | reference.keys())
    p, q = (np.array([counts.get(key, 0) for key in places], float) for counts in (day, reference))
    if not p.sum() or not q.sum():
        return float("nan")
    before = np.cumsum(q) - q
    group = np.minimum((before / q.sum() * groups).astype(int), groups - 1)
    p, q = np.bincount(group, p, groups), np.bincount(group, q, groups)
    is_used = (p + q) > 0
    p, q = p[is_used] + 0.5, q[is_used] + 0.5
    p, q = p / p.sum(), q / q.sum()
    return float(((p - q) * np.log(p / q)).sum())
