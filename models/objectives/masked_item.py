"""Masked item: the state of a hidden event predicts its item (BERT4Rec, Sun et al., 2019).

To compare with PTUM, whose user vector predicts what is hidden: here the event's own state does.

Shapes: T events, N hidden ones, D width, V items, P others, C = P + 1 candidates.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.distributed import share
from models.draw import Draw
from models.objectives.base import Objective, Outcome
from models.objectives.next_item import item_loss
from models.objectives.views import hidden
from models.packed import MASK, Events, Packed, pack
from models.user_model import ModelConfig, UserModel


@dataclass(frozen=True)
class Options:
    """How much is hidden."""

    hide_share: float = 0.2
    chunk: int = 2048  # targets whose V logits are held at once
    negatives: int = 0  # others' events that a user's hidden ones are told from; 0: all items

    def __post_init__(self) -> None:
        if not 0 < self.hide_share < 1 or self.chunk < 1 or self.negatives < 0:
            raise ValueError(
                "hide_share must lie in (0, 1), chunk be 1 or more, and negatives not be negative"
            )


@dataclass(frozen=True)
class Sample:
    """The windows with events hidden, and the items as they were, in the same packed order."""

    view: Packed
    whole: Packed
    other_BP: Tensor  # items of other users' events, by popularity


class MaskedItem(Objective):
    """Predicts each hidden event from the events around it."""

    options_class = Options
    needs_encoder = True

    def __init__(self, model: ModelConfig, options: Options) -> None:
        super().__init__(model, options)
        self.min_events = 2
        self.others = options.negatives

    def sample(self, windows: Events, others: Events, draw: Draw) -> Sample:
        """Hides events."""
        view = hidden(windows, draw, "masked", self.options.hide_share)
        users, negatives = len(windows.lengths_B), self.options.negatives
        other_BP = others.item_T[: users * negatives].view(users, negatives)
        return Sample(pack(view), pack(windows), other_BP)

    def forward(self, model: UserModel, sample: Sample) -> Outcome:
        """Predicts the items of what is hidden."""
        view = sample.view
        hidden_N = torch.nonzero((view.item_T == MASK) & (sample.whole.item_T != MASK))[:, 0]
        states_ND = model.encoder.states_at(model.behaviour(view), view, hidden_N)
        users_BD = _means(states_ND.detach(), view.sequence_T[hidden_N])
        weight = share(len(hidden_N))
        if not len(hidden_N):
            return Outcome(0 * states_ND.sum(), users_BD, {})
        item_N = sample.whole.item_T[hidden_N]
        if self.options.negatives:
            other_NP = sample.other_BP[view.sequence_T[hidden_N]]
            table_VD = model.behaviour.items()
            loss, accuracy = sampled_loss(states_ND, item_N, other_NP, table_VD)
        else:
            catalogue = model.behaviour.catalogue(item_N)
            loss, accuracy = item_loss(states_ND, item_N, catalogue, self.options.chunk)
        return Outcome(weight * loss, users_BD, {"accuracy": accuracy})

    def encoded_events(self, sample: Sample) -> int:
        """Returns the events of the windows."""
        return len(sample.view.item_T)


def _means(states_ND: Tensor, user_N: Tensor) -> Tensor:
    """Averages what was predicted from: a vector for each user of whom something was hidden."""
    of_N, count_B = torch.unique(user_N, return_inverse=True, return_counts=True)[1:]
    sums_BD = states_ND.new_zeros(len(count_B), states_ND.shape[1]).index_add(0, of_N, states_ND)
    return sums_BD / count_B[:, None]


def sampled_loss(
    states_ND: Tensor, item_N: Tensor, other_NP: Tensor, table_VD: Tensor
) -> tuple[Tensor, Tensor]:
    """Tells each target from P other items; one that is the target itself does not count."""
    candidate_NC = torch.cat([item_N[:, None], other_NP], dim=1)
    logits_NC = torch.einsum("nd,ncd->nc", states_ND, F.embedding(candidate_NC, table_VD))
    is_same_NC = candidate_NC == item_N[:, None]
    is_same_NC[:, 0] = False
    logits_NC = logits_NC.masked_fill(is_same_NC, float("-inf"))
    loss = F.cross_entropy(logits_NC, torch.zeros_like(item_N))
    return loss, (logits_NC.detach().argmax(1) == 0).float().mean()
