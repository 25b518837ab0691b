"""Lists of candidates: what is known of each row, what a ranking of the rows is worth.

Shapes: n lists, M rows of all lists, K numbers known of a row.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from contracts.config.metrics import metrics_of
from models.data.examples import Lists
from models.metrics.formulas import FORMULAS
from models.metrics.predictions import Predicted
from models.metrics.rank import Ranks
from models.probing.standardize import known_moments, signed_log


@dataclass(frozen=True)
class NumberScaler:
    """What the training lists tell of the numbers; applied to all lists alike.

    Each number comes out twice: its signed logarithm, standardized, and its place among the list's
    own (0 the smallest, 1 the largest). One that is not known is 0, and in the middle.
    """

    mean_K: np.ndarray
    scale_K: np.ndarray

    @classmethod
    def of(cls, lists: Lists) -> "NumberScaler":
        """Measures the training lists."""
        return cls(*known_moments(signed_log(lists.numbers_MK)))

    def __call__(self, lists: Lists) -> Tensor:
        """Returns float32 [M, 2K]."""
        scaled = np.nan_to_num((signed_log(lists.numbers_MK) - self.mean_K) / self.scale_K)
        places = [place_in_list(column, lists.lengths_n) - 0.5 for column in lists.numbers_MK.T]
        return torch.from_numpy(np.column_stack([scaled, *places]).astype(np.float32))


def place_in_list(number_M: np.ndarray, lengths_n: np.ndarray) -> np.ndarray:
    """Each row's place among its list, 0 the smallest to 1; equal numbers share one."""
    owner = np.repeat(np.arange(len(lengths_n)), lengths_n)
    known = ~np.isnan(number_M)
    order = np.lexsort((np.where(known, number_M, np.inf), owner))
    starts = np.repeat(np.cumsum(lengths_n) - lengths_n, lengths_n)
    nth = np.empty(len(owner))
    nth[order] = np.arange(len(owner)) - starts[order]
    # Rows of one list and number get the mean of their places.
    key = np.unique(np.column_stack([owner, np.where(known, number_M, -np.inf)]), axis=0,
                    return_inverse=True)[1].ravel()  # fmt: skip
    shared = np.bincount(key, weights=nth) / np.bincount(key)
    counts = np.bincount(owner, weights=known, minlength=len(lengths_n))[owner]
    place = shared[key] / np.maximum(counts - 1, 1)
    return np.where(known & (counts > 1), place, 0.5)


def owners(lengths_n: np.ndarray) -> Tensor:
    """The list of each row, int64 [M]."""
    return torch.repeat_interleave(torch.from_numpy(lengths_n.astype(np.int64)))


def log_softmax_by_list(scores_M: Tensor, owner_M: Tensor, lists: int) -> Tensor:
    """The log of each row's share of its list."""
    top_n = scores_M.new_full((lists,), -torch.inf)
    top_n = top_n.scatter_reduce(0, owner_M, scores_M.detach(), "amax")
    shifted_M = scores_M - top_n[owner_M]
    total_n = scores_M.new_zeros(lists).index_add(0, owner_M, shifted_M.exp())
    return shifted_M - total_n.log()[owner_M]


def list_loss(scores_M: Tensor, relevant_M: Tensor, owner_M: Tensor, lists: int) -> Tensor:
    """Cross-entropy of each list's softmax against its chosen rows, averaged over lists."""
    log_share_M = log_softmax_by_list(scores_M, owner_M, lists)
    chosen_n = scores_M.new_zeros(lists).index_add(0, owner_M, relevant_M)
    return -(log_share_M * relevant_M / chosen_n[owner_M].clamp_min(1)).sum() / lists


def first_places(scores_M: np.ndarray, lists: Lists) -> Ranks:
    """Where the best of each list's chosen rows stands among the others."""
    count = len(lists.lengths_n)
    owner = owners(lists.lengths_n).numpy()
    best_n = np.full(count, -np.inf)
    np.maximum.at(best_n, owner[lists.is_relevant_M], scores_M[lists.is_relevant_M])
    above = np.bincount(owner, weights=scores_M > best_n[owner], minlength=count)
    is_tied = (scores_M == best_n[owner]) & ~lists.is_relevant_M
    tied = np.bincount(owner, weights=is_tied, minlength=count)
    return Ranks(above.astype(np.int64), tied.astype(np.int64))


def measure_lists(scores_M: np.ndarray, lists: Lists, metric: str) -> dict[str, float]:
    """Measures scores of rows: rank metrics over lists, others over all rows; `metric` first."""
    unknown_M, owner_n = np.full(len(scores_M), -1), np.arange(len(lists.lengths_n))
    rows = Predicted(
        "classification", unknown_M, lists.is_relevant_M, np.stack([-scores_M, scores_M], axis=1)
    )
    ranked = Predicted("ranking", owner_n, owner_n, first_places(scores_M, lists).scores_n2)
    known = {each.name: each for each in metrics_of("candidates")}
    return {
        name: FORMULAS[name].value(ranked if "ranking" in known[name].kinds else rows)
        for name in dict.fromkeys((metric, *known))
    }
