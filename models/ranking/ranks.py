"""Where the right item stands in a ranking of all items.

Scores of all items are made for a few examples at a time, and what scores above is counted where it
is made: nothing else as large as they are is held.

Shapes: n examples, V items, P pairs of an example and an item.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from contracts.base.errors import FootpathError
from models.data.examples import Labeled, seen_items
from models.data.packed import UNK
from models.data.sequences import Sequences
from models.metrics.formulas import FORMULAS
from models.metrics.predictions import Predicted
from models.metrics.rank import Ranks, join_ranks
from models.ranking.item_head import BLOCK, rows_at_once

Scores = Callable[[slice], Tensor]  # which of the examples of a block -> scores [n, V]
Score = Callable[[Labeled, slice], Scores]  # a block of examples, and which of all they are

FREQUENT = 10  # times that training has met an item, from which it is no rare one


def rank_items(scores_nV: Tensor, sequences: Sequences, examples: Labeled, exclude: bool) -> Ranks:
    """Ranks the right item of each example among all items.

    Args:
      scores_nV: of every item of the vocabulary; the special ones do not compete.
      sequences: where the histories are.
      examples: y is the right item. One that the vocabulary does not know is never found.
      exclude: items that the model has seen of the example do not compete, but for the right one.

    Raises:
      FootpathError: a score is not a number.
    """
    if not torch.isfinite(torch.stack(torch.aminmax(scores_nV))).all():
        raise FootpathError("a model scores items by what is no number: look at its training")
    right_n = examples.y_n
    own_n = _at(scores_nV, np.arange(len(right_n)), right_n)
    reach_n, above_n = _counts(scores_nV[:, UNK + 1 :], own_n)
    competing_n = np.full(len(right_n), scores_nV.shape[1] - UNK - 1)
    if exclude:
        row_P, item_P = _seen(sequences, examples)
        score_P, own_P = _at(scores_nV, row_P, item_P), own_n[row_P]
        above_n = above_n - np.bincount(row_P[score_P > own_P], minlength=len(right_n))
        reach_n = reach_n - np.bincount(row_P[score_P >= own_P], minlength=len(right_n))
        competing_n = competing_n - np.bincount(row_P, minlength=len(right_n))
    is_known = right_n > UNK
    return Ranks(
        np.where(is_known, above_n, competing_n), np.where(is_known, reach_n - above_n - 1, 0)
    )


def _at(scores_nV: Tensor, row_P: np.ndarray, item_P: np.ndarray) -> np.ndarray:
    rows, items = (torch.from_numpy(x).to(scores_nV.device) for x in (row_P, item_P))
    return scores_nV[rows, items].cpu().numpy()


def _counts(scores_nV: Tensor, own_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many scores of each row reach its own, and how many are above it; int64 [n] both."""
    if scores_nV.device.type != "cpu":
        own_n1 = torch.from_numpy(own_n).to(scores_nV.device)[:, None]
        counts = [(scores_nV >= own_n1).sum(1), (scores_nV > own_n1).sum(1)]
        return counts[0].cpu().numpy(), counts[1].cpu().numpy()
    pairs = list(zip(scores_nV.numpy(), own_n, strict=True))  # NumPy counts 17 times faster
    reach = [np.count_nonzero(row >= own) for row, own in pairs]
    above = [np.count_nonzero(row > own) for row, own in pairs]
    return np.array(reach, np.int64), np.array(above, np.int64)


def _seen(sequences: Sequences, examples: Labeled) -> tuple[np.ndarray, np.ndarray]:
    """The distinct items that are seen of each example, but for the right one: rows and items."""
    row_T = np.repeat(np.arange(len(examples.users_n)), examples.lengths_n)
    item_T = seen_items(sequences, examples).astype(np.int64)
    competes_T = (item_T > UNK) & (item_T != examples.y_n[row_T])
    pairs = np.unique(np.stack([row_T[competes_T], item_T[competes_T]]), axis=1)
    return pairs[0], pairs[1]


def rank_examples(score: Score, sequences: Sequences, examples: Labeled, exclude: bool) -> Ranks:
    """Ranks as `rank_items`, few examples at a time, whose scores alone are held."""
    parts, count = [], len(examples.users_n)
    few = rows_at_once(sequences.sizes["item"])
    for start in range(0, count, BLOCK):
        block = slice(start, min(start + BLOCK, count))
        some = examples.pick(np.arange(block.start, block.stop))
        scores = score(some, block)
        for first in range(0, len(some.users_n), few):
            rows = slice(first, min(first + few, len(some.users_n)))
            picked = some.pick(np.arange(rows.start, rows.stop))
            parts.append(rank_items(scores(rows), sequences, picked, exclude))
    return join_ranks(parts)


def measure_by_count(ranked: Predicted, counts_n: np.ndarray, metric: str) -> dict[str, float]:
    """Measures apart the examples whose right item training has met never, rarely and often.

    Args:
      ranked: rankings of n examples.
      counts_n: how often the training examples have met the right item of each.
      metric: what is measured, which names the figures: recall@10_cold, recall@10_rare, and
        recall@10_frequent. One that no example goes into is left out.
    """
    kinds = {
        "cold": counts_n == 0,
        "rare": (counts_n > 0) & (counts_n < FREQUENT),
        "frequent": counts_n >= FREQUENT,
    }
    return {
        f"{metric}_{kind}": FORMULAS[metric].value(ranked.pick(of_n))
        for kind, of_n in kinds.items()
        if of_n.any()
    }
