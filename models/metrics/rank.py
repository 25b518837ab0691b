"""Rank metrics: where the right item stands in a ranking, and what its place is worth.

Equal scores are no order: of an item that is tied with t others, each of its t + 1 places is
equally likely, and every metric is its exact expectation over them. A model that scores all items
alike gets what chance gets.

Shapes: n examples.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ranks:
    """How many items score above the right one, and how many others score the same."""

    above_n: np.ndarray
    tied_n: np.ndarray

    @property
    def scores_n2(self) -> np.ndarray:
        """The first place that the right item can have, from 1, and with how many it is tied."""
        return np.stack([1 + self.above_n, self.tied_n], axis=1)

    @classmethod
    def of_scores(cls, scores_n2: np.ndarray) -> "Ranks":
        """Reads `scores_n2` again."""
        first_n, tied_n = scores_n2.astype(np.int64).T
        return cls(first_n - 1, tied_n)

    def expected(self, worth: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """What each example's place is worth [n], averaged over its ties.

        `worth` gives what places, which are counted from 1, are worth.
        """
        last_n = self.above_n + self.tied_n + 1
        place = np.arange(1, int(last_n.max(initial=1)) + 1)
        total = np.concatenate([[0.0], np.cumsum(worth(place))])
        return (total[last_n] - total[self.above_n]) / (self.tied_n + 1)


def join_ranks(parts: list[Ranks]) -> Ranks:
    """The ranks of all parts, in order."""
    return Ranks(
        np.concatenate([part.above_n for part in parts]),
        np.concatenate([part.tied_n for part in parts]),
    )
