"""Places in flat arrays of histories, which lie one user after the other.

Shapes: n places asked for, N events of all.
"""

import numpy as np


def places_before(
    time_N: np.ndarray, first_n: np.ndarray, length_n: np.ndarray, second_n: np.ndarray
) -> np.ndarray:
    """Counts the events of each run before a second -> int64 [n]; those of that second are not.

    A binary search in all runs at once: it touches few events of a map that may be large.

    Args:
      time_N: unix seconds, ascending within each run.
      first_n: where the runs begin.
      length_n: how long they are.
      second_n: unix seconds.
    """
    low, high = np.zeros(len(first_n), np.int64), length_n.astype(np.int64)
    while (open_n := low < high).any():
        middle = (low + high) // 2
        at = np.minimum(first_n + middle, len(time_N) - 1)
        is_before = open_n & (time_N[at] < second_n)
        low = np.where(is_before, middle + 1, low)
        high = np.where(open_n & ~is_before, middle, high)
    return low


def flat_index(first_n: np.ndarray, length_n: np.ndarray) -> np.ndarray:
    """The places of n runs, each from its first place on, one run after the other."""
    before_n = np.cumsum(length_n) - length_n
    return np.arange(length_n.sum()) + np.repeat(first_n - before_n, length_n)
