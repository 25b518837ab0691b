"""What the place of the right item in a ranking is worth. Needs no torch.

Equal scores are no order: of an item that is tied with t others, each of its t + 1 places is
equally likely, and every metric is its exact expectation over them. A model that scores all items
alike gets what chance gets.

Shapes: n examples.
"""

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
    def of_scores(cls, scores_nC: np.ndarray) -> "Ranks":
        """Reads `scores_n2` again; one column, as there once was, is the middle of the places."""
        first_n = np.floor(scores_nC[:, 0])
        tied_n = np.ceil(scores_nC[:, 0]) - first_n if scores_nC.shape[1] == 1 else scores_nC[:, 1]
        return cls(first_n.astype(np.int64) - 1, tied_n.astype(np.int64))


def join_ranks(parts: list[Ranks]) -> Ranks:
    """Returns the ranks of all parts, in order."""
    return Ranks(
        np.concatenate([part.above_n for part in parts]),
        np.concatenate([part.tied_n for part in parts]),
    )


def gain(metric: str, ranks: Ranks) -> np.ndarray | None:
    """Returns what each example adds to recall@k, ndcg@k or mrr [n]; None of other metrics."""
    name, _, depth = metric.partition("@")
    place = np.arange(1, int((ranks.above_n + ranks.tied_n).max(initial=0)) + 2)
    within = (place <= float(depth or np.inf)).astype(float)
    if name == "recall":
        worth = within
    elif name == "ndcg":
        worth = within / np.log2(place + 1)
    elif name == "mrr":
        worth = within / place
    else:
        return None
    total = np.concatenate([[0.0], np.cumsum(worth)])
    last_n = ranks.above_n + ranks.tied_n + 1
    return (total[last_n] - total[ranks.above_n]) / (ranks.tied_n + 1)


def expected(metric: str, ranks: Ranks) -> float:
    """Returns a metric of all examples.

    Raises:
      ValueError: it is none of a ranking.
    """
    gain_n = gain(metric, ranks)
    if gain_n is None:
        raise ValueError(f"{metric} is no metric of a ranking")
    return float(gain_n.mean())
