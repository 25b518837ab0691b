"""A softmax head over all items, low in rank: it moves a user vector into the space of the items.

    score of item v = (W z + c) . e_v / s + g log p_v + r_k

z is the standardized user vector, e_v the encoder's own item vectors with spread s, p_v how often
the training users have met the item, r_k a weight for the k-th last item that was seen (0 for all
others, and where items of the history do not compete). The head starts from the better, on
validation examples, of two rankings, which it has to beat: by popularity (W and c are 0, g is 1),
and by the dot product of user and item, which is what some pre-training trains (W and c undo the
standardization, g is 0); r is fitted to each. A weight for each item would be V x D numbers for a
few thousand examples; this is D x D.

Shapes: n examples, V items, D width, R recent items.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.data.examples import Labeled, seen_items
from models.data.packed import UNK
from models.data.rng import key_of
from models.data.sequences import Sequences
from models.nn.catalog import Catalog, catalog_of
from models.probing.probe import Standardizer
from models.ranking.recent import add_repeats, fit_repeats
from models.training.fit import TuneSettings, tune

BLOCK = 512  # examples that are encoded at once
SCORES = 1 << 24  # that are held at once: 64 MB
MOST_FITTED, MOST_JUDGED = 100_000, 20_000  # examples; D x D weights learn no more of others
FITTING = TuneSettings(lr=1e-2, epochs=30, patience=3, batch_size=256, weight_decay=0.01, seed=0)


class ItemHead(nn.Module):
    """User vectors [n, D], item vectors [V, D] and recent items [n, R] -> scores [n, V]."""

    mean_D: Tensor
    scale_D: Tensor
    spread: Tensor
    prior_V: Tensor

    def __init__(
        self,
        standardizer: Standardizer,
        items_VD: Tensor,
        counts_V: np.ndarray,
        repeats: int = 0,
    ) -> None:
        super().__init__()
        width = items_VD.shape[1]
        self.register_buffer("mean_D", standardizer.mean_D.clone())
        self.register_buffer("scale_D", standardizer.scale_D.clone())
        self.register_buffer("spread", items_VD[UNK + 1 :].std().clamp_min(1e-6))
        prior = torch.from_numpy(np.log((counts_V + 1) / (counts_V + 1).sum()))
        self.register_buffer("prior_V", prior.float())
        self.project = nn.Linear(len(standardizer.mean_D), width)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        self.gain = nn.Parameter(torch.ones(()))
        self.repeat_R = nn.Parameter(torch.zeros(repeats))

    @torch.no_grad()
    def begin(self, by_product: bool, repeat_R: Tensor | None = None) -> None:
        """Starts from the dot product of user and item or from popularity, and from repeats."""
        self.project.weight.zero_()
        self.project.bias.zero_()
        self.gain.fill_(0.0 if by_product else 1.0)
        self.repeat_R.copy_(torch.zeros_like(self.repeat_R) if repeat_R is None else repeat_R)
        if by_product:
            self.project.weight.copy_(torch.diag(self.scale_D * self.spread))
            self.project.bias.copy_(self.mean_D * self.spread)

    def forward(self, users_nD: Tensor, items_VD: Tensor, recent_nR: Tensor) -> Tensor:
        """Scores all items for each user vector."""
        return self.scores(users_nD, Catalog(items_VD), recent_nR)

    def scores(self, users_nD: Tensor, catalog: Catalog, recent_nR: Tensor) -> Tensor:
        """Scores the items of a catalog, which was read for the recent ones -> [n, C]."""
        moved_nD = self.project((users_nD - self.mean_D) / self.scale_D) / self.spread
        prior_C = self.gain * self.prior_V
        if catalog.item_C is not None:
            assert catalog.log_weight_C is not None
            prior_C = prior_C[catalog.item_C] + catalog.log_weight_C
        scores_nC = torch.addmm(prior_C, moved_nD, catalog.items_CD.T)
        add_repeats(scores_nC, self.repeat_R, recent_nR, catalog.place(recent_nR))
        return scores_nC

    def nll(self, users_nD: Tensor, catalog: Catalog, right_n: Tensor, recent_nR: Tensor) -> Tensor:
        """The mean cross-entropy of the right items.

        The catalog was read for them, and for the recent ones.
        """
        scores_nC = self.scores(users_nD, catalog, recent_nR)
        if catalog.item_C is None:
            return item_nll(scores_nC, right_n)
        return F.cross_entropy(scores_nC, catalog.place(right_n))


@dataclass(frozen=True)
class Vectors:
    """User vectors of examples, the items that were right, and the items seen last."""

    x_nD: Tensor
    y_n: Tensor
    recent_nR: Tensor

    def __len__(self) -> int:
        return len(self.y_n)

    def pick(self, index_n: Tensor | slice) -> "Vectors":
        """Chosen examples."""
        return Vectors(self.x_nD[index_n], self.y_n[index_n], self.recent_nR[index_n])

    def known(self, most: int, seed: int) -> "Vectors":
        """At most so many examples, drawn alike, whose item the vocabulary knows.

        Nothing learns from the others.
        """
        kept_n = torch.nonzero(self.y_n > UNK)[:, 0]
        if len(kept_n) > most:
            drawn_n = np.random.default_rng(seed).permutation(len(kept_n))[:most]
            kept_n = kept_n[torch.from_numpy(np.sort(drawn_n))]
        return self.pick(kept_n)

    def catalog(self, items_VD: Tensor, sampled: int) -> Catalog:
        """All items, or those that examples are right in, or met last, and so many others."""
        needed = torch.cat([self.y_n, self.recent_nR[self.recent_nR > UNK]])
        return catalog_of(items_VD, needed, sampled)


def fit_item_head(
    head: ItemHead,
    train: Vectors,
    valid: Vectors,
    items_VD: Tensor,
    seed: int = 0,
    sampled: int = 0,
) -> None:
    """Fits a head on the training examples, stopped by the loss of the validation examples.

    Args:
      head: what is fitted.
      train: examples; of very many, some.
      valid: examples; of very many, some.
      items_VD: vectors of all items.
      seed: of batches, and of what is drawn.
      sampled: others that stand for all items in a softmax; 0: all do.
    """
    train, valid = train.known(MOST_FITTED, seed), valid.known(MOST_JUDGED, seed)
    losses, repeats = {}, {}
    for by_product in (False, True):
        head.begin(by_product)
        repeats[by_product] = _fit_repeats(head, train, items_VD, sampled)
        head.begin(by_product, repeats[by_product])
        losses[by_product] = mean_loss(head, valid, items_VD, sampled)
    best = losses[True] < losses[False]
    head.begin(best, repeats[best])

    def loss_of(chosen: np.ndarray, epoch: int) -> Tensor:  # noqa: ARG001
        some = train.pick(torch.from_numpy(chosen))
        return head.nll(some.x_nD, some.catalog(items_VD, sampled), some.y_n, some.recent_nR)

    def valid_loss() -> float:
        return mean_loss(head, valid, items_VD, sampled)

    tune(head, len(train), loss_of, valid_loss, replace(FITTING, seed=seed))


def _fit_repeats(head: ItemHead, examples: Vectors, items_VD: Tensor, sampled: int) -> Tensor:
    """Fits what repeats add to the head as it is, whose own weights for them are 0."""
    shares = []
    with torch.no_grad():
        for some, catalog in _with_catalogs(examples, items_VD, sampled):
            scores_nC = head.scores(some.x_nD, catalog, some.recent_nR)
            if catalog.item_C is None:
                scores_nC[:, : UNK + 1] = -torch.inf
            shares.append(scores_nC.softmax(dim=1).gather(1, catalog.place(some.recent_nR)))
    share_nR = torch.cat(shares) if shares else examples.recent_nR.float()
    return fit_repeats(examples.recent_nR, examples.y_n, share_nR)


@torch.no_grad()
def mean_loss(head: ItemHead, vectors: Vectors, items_VD: Tensor, sampled: int) -> float:
    """The mean loss of examples, over all items or a sample of the others, the same each time."""
    losses = [
        head.nll(some.x_nD, catalog, some.y_n, some.recent_nR) * len(some)
        for some, catalog in _with_catalogs(vectors, items_VD, sampled)
    ]
    return float(torch.stack(losses).sum() / len(vectors)) if losses else 0.0


def _with_catalogs(
    vectors: Vectors, items_VD: Tensor, sampled: int
) -> Iterator[tuple[Vectors, Catalog]]:
    """Few examples at a time, each with what their softmax is taken of."""
    few = BLOCK if sampled else min(BLOCK, rows_at_once(len(items_VD)))
    for nth, start in enumerate(range(0, len(vectors), few)):
        some = vectors.pick(slice(start, start + few))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key_of(0, nth) >> 1)
            catalog = some.catalog(items_VD, sampled)
        yield some, catalog


def rows_at_once(items: int) -> int:
    """Of how many examples the scores of so many items are held at once."""
    return max(1, SCORES // items)


def item_nll(scores_nV: Tensor, right_n: Tensor) -> Tensor:
    """Cross-entropy over the items that can be right; the special ones take no part."""
    return F.cross_entropy(scores_nV[:, UNK + 1 :], right_n - (UNK + 1))


def popularity(sequences: Sequences, examples: Labeled) -> np.ndarray:
    """Counts the items of what is seen of some examples -> float64 [V]."""
    counts = np.bincount(seen_items(sequences, examples), minlength=sequences.sizes["item"])
    counts[: UNK + 1] = 0
    return counts.astype(np.float64)
