"""Where the right item stands in a ranking of all items.

Shapes: n examples, V items.
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
from models.ranking.item_head import BLOCK

Score = Callable[[Labeled, slice], Tensor]  # some examples, and which of all -> scores [n, V]

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
    if not torch.isfinite(scores_nV).all():
        raise FootpathError("a model scores items by what is no number: look at its training")
    right_n = torch.from_numpy(examples.y_n).to(scores_nV.device)
    own_n1 = scores_nV.gather(1, right_n[:, None])
    competes_nV = torch.ones_like(scores_nV, dtype=torch.bool)
    competes_nV[:, : UNK + 1] = False
    if exclude:
        row = torch.repeat_interleave(torch.from_numpy(examples.lengths_n.astype(np.int64)))
        item = torch.from_numpy(seen_items(sequences, examples))
        competes_nV[row.to(scores_nV.device), item.to(scores_nV.device)] = False
    competes_nV.scatter_(1, right_n[:, None], False)
    above = ((scores_nV > own_n1) & competes_nV).sum(1).cpu().numpy()
    tied = ((scores_nV == own_n1) & competes_nV).sum(1).cpu().numpy()
    unknown = examples.y_n <= UNK
    return Ranks(
        np.where(unknown, competes_nV.sum(1).cpu().numpy(), above), np.where(unknown, 0, tied)
    )


def rank_examples(score: Score, sequences: Sequences, examples: Labeled, exclude: bool) -> Ranks:
    """Ranks as `rank_items`, a block of examples at a time, whose scores alone are held."""
    parts = []
    for start in range(0, len(examples.users_n), BLOCK):
        block = slice(start, start + BLOCK)
        some = examples.pick(np.arange(len(examples.users_n))[block])
        parts.append(rank_items(score(some, block), sequences, some, exclude))
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
