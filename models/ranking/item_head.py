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

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.data.examples import Labeled, seen_items
from models.data.packed import UNK
from models.data.sequences import Sequences
from models.nn.catalog import Catalog
from models.probing.probe import Standardizer
from models.ranking.recent import add_repeats, fit_repeats
from models.training.fit import TuneSettings, tune

BLOCK = 512  # examples whose V scores are held at once
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
        scores_nV = self._moved(users_nD) @ (items_VD / self.spread).T + self.gain * self.prior_V
        add_repeats(scores_nV, self.repeat_R, recent_nR, recent_nR)
        return scores_nV

    def nll(self, users_nD: Tensor, catalog: Catalog, right_n: Tensor, recent_nR: Tensor) -> Tensor:
        """The mean cross-entropy of the right items.

        The catalog was read for them, and for the recent ones.
        """
        if catalog.item_C is None:
            return item_nll(self(users_nD, catalog.items_CD, recent_nR), right_n)
        scores_nC = catalog.scores(self._moved(users_nD) / self.spread)
        scores_nC = scores_nC + self.gain * self.prior_V[catalog.item_C]
        add_repeats(scores_nC, self.repeat_R, recent_nR, catalog.place(recent_nR))
        return F.cross_entropy(scores_nC, catalog.place(right_n))

    def _moved(self, users_nD: Tensor) -> Tensor:
        return self.project((users_nD - self.mean_D) / self.scale_D)


@dataclass(frozen=True)
class Vectors:
    """User vectors of examples, the items that were right, and the items seen last."""

    x_nD: Tensor
    y_n: Tensor
    recent_nR: Tensor

    def known(self) -> "Vectors":
        """Leaves out examples whose item the vocabulary does not know: nothing learns from them."""
        kept = self.y_n > UNK
        return Vectors(self.x_nD[kept], self.y_n[kept], self.recent_nR[kept])


def fit_item_head(
    head: ItemHead, train: Vectors, valid: Vectors, items_VD: Tensor, seed: int = 0
) -> None:
    """Fits a head on the training examples, stopped by the loss of the validation examples."""
    train, valid = train.known(), valid.known()
    losses, repeats = {}, {}
    for by_product in (False, True):
        head.begin(by_product)
        repeats[by_product] = _fit_repeats(head, train, items_VD)
        head.begin(by_product, repeats[by_product])
        losses[by_product] = mean_loss(head, valid, items_VD)
    best = losses[True] < losses[False]
    head.begin(best, repeats[best])

    def loss_of(chosen: np.ndarray, epoch: int) -> Tensor:  # noqa: ARG001
        scores_nV = head(train.x_nD[chosen], items_VD, train.recent_nR[chosen])
        return item_nll(scores_nV, train.y_n[chosen])

    def valid_loss() -> float:
        return mean_loss(head, valid, items_VD)

    tune(head, len(train.y_n), loss_of, valid_loss, replace(FITTING, seed=seed))


def _fit_repeats(head: ItemHead, examples: Vectors, items_VD: Tensor) -> Tensor:
    """Fits what repeats add to the head as it is, whose own weights for them are 0."""
    shares = []
    with torch.no_grad():
        for x_nD, recent_nR in zip(
            examples.x_nD.split(BLOCK), examples.recent_nR.split(BLOCK), strict=True
        ):
            scores_nV = head(x_nD, items_VD, recent_nR)
            scores_nV[:, : UNK + 1] = -torch.inf
            shares.append(scores_nV.softmax(dim=1).gather(1, recent_nR))
    share_nR = torch.cat(shares) if shares else examples.recent_nR.float()
    return fit_repeats(examples.recent_nR, examples.y_n, share_nR)


@torch.no_grad()
def mean_loss(head: ItemHead, vectors: Vectors, items_VD: Tensor) -> float:
    """The mean loss of examples, a block of them at a time."""
    parts = (vectors.x_nD, vectors.recent_nR, vectors.y_n)
    losses = [
        item_nll(head(x_nD, items_VD, recent_nR), y_n) * len(y_n)
        for x_nD, recent_nR, y_n in zip(*(part.split(BLOCK) for part in parts), strict=True)
    ]
    return float(torch.stack(losses).sum() / len(vectors.y_n)) if losses else 0.0


def item_nll(scores_nV: Tensor, right_n: Tensor) -> Tensor:
    """Cross-entropy over the items that can be right; the special ones take no part."""
    return F.cross_entropy(scores_nV[:, UNK + 1 :], right_n - (UNK + 1))


def popularity(sequences: Sequences, examples: Labeled) -> np.ndarray:
    """Counts the items of what is seen of some examples -> float64 [V]."""
    counts = np.bincount(seen_items(sequences, examples), minlength=sequences.sizes["item"])
    counts[: UNK + 1] = 0
    return counts.astype(np.float64)
