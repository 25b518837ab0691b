"""Masked item: the state of a hidden event predicts its item (BERT4Rec, Sun et al., 2019).

To compare with PTUM, whose user vector predicts what is hidden: here the event's own state does.

Shapes: T events, N hidden ones, H users who have some, D width, V items, P others, C = P + 1
candidates.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from contracts.recipes.methods import MaskedOptions
from models.data.packed import MASK, Events, Packed, pack
from models.data.rng import Draw
from models.nn.user_model import ModelConfig, UserModel
from models.objectives.base import ItemScore, Objective, Outcome
from models.objectives.item_loss import item_loss
from models.objectives.views import hidden
from models.runtime.distributed import share


@dataclass(frozen=True)
class Sample:
    """The windows with events hidden, and what is asked of them."""

    view: Packed
    hidden_N: Tensor  # events, in ascending order
    item_N: Tensor  # what they were
    user_N: Tensor  # whose they are, counting the users of whom something is hidden
    users: int  # that many there are
    other_NP: Tensor  # items of other users' events, by popularity


class MaskedItem(Objective):
    """Predicts each hidden event from the events around it."""

    needs_encoder = True

    def __init__(self, model: ModelConfig, options: MaskedOptions) -> None:
        super().__init__(model, options)
        self.min_events = 2
        self.others = options.negatives

    @classmethod
    def item_score(cls, options: MaskedOptions, is_causal: bool) -> ItemScore | None:  # noqa: ARG003
        """By the state of a hidden event."""
        return ItemScore("hidden")

    def sample(self, windows: Events, others: Events, draw: Draw) -> Sample:
        """Hides events."""
        view = pack(hidden(windows, draw, "masked", self.options.hide_share))
        item_T = pack(windows).item_T
        hidden_N = torch.nonzero((view.item_T == MASK) & (item_T != MASK))[:, 0]
        sequence_N = view.sequence_T[hidden_N]
        users, user_N = torch.unique(sequence_N, return_inverse=True)
        each, negatives = len(windows.lengths_B), self.options.negatives
        other_NP = others.item_T[: each * negatives].view(each, negatives)[sequence_N]
        return Sample(view, hidden_N, item_T[hidden_N], user_N, len(users), other_NP)

    def forward(self, model: UserModel, sample: Sample) -> Outcome:
        """Predicts the items of what is hidden."""
        view, item_N = sample.view, sample.item_N
        states_ND = model.encoder.states_at(model.behavior(view), view, sample.hidden_N)
        users_HD = _means(states_ND.detach(), sample.user_N, sample.users)
        weight = share(len(item_N))
        if not len(item_N):
            return Outcome(0 * states_ND.sum(), users_HD, {})
        if self.options.negatives:
            candidate_NC = torch.cat([item_N[:, None], sample.other_NP], dim=1)
            items_NCD = model.behavior.items_at(candidate_NC)
            loss, accuracy = sampled_loss(states_ND, candidate_NC, items_NCD)
        else:
            catalog = model.behavior.catalog(item_N)
            loss, accuracy = item_loss(states_ND, item_N, catalog, self.options.chunk)
        return Outcome(weight * loss, users_HD, {"accuracy": accuracy})

    def encoded_events(self, sample: Sample) -> int:
        """The events of the windows."""
        return len(sample.view.item_T)


def _means(states_ND: Tensor, user_N: Tensor, users: int) -> Tensor:
    """Averages what was predicted from: a vector for each user of whom something is hidden."""
    sums_HD = states_ND.new_zeros(users, states_ND.shape[1]).index_add(0, user_N, states_ND)
    counts_H = states_ND.new_zeros(users).index_add(0, user_N, torch.ones_like(states_ND[:, 0]))
    return sums_HD / counts_H[:, None]


def sampled_loss(
    states_ND: Tensor, candidate_NC: Tensor, items_NCD: Tensor
) -> tuple[Tensor, Tensor]:
    """Tells each target, the first candidate, from others; one that is the same does not count."""
    logits_NC = torch.einsum("nd,ncd->nc", states_ND, items_NCD)
    is_same_NC = candidate_NC == candidate_NC[:, :1]
    is_same_NC[:, 0] = False
    logits_NC = logits_NC.masked_fill(is_same_NC, float("-inf"))
    loss = F.cross_entropy(logits_NC, torch.zeros_like(candidate_NC[:, 0]))
    return loss, (logits_NC.detach().argmax(1) == 0).float().mean()
