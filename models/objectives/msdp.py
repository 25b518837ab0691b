"""MSDP: the past predicts the distribution of items in windows of the future (Fu et al., 2023).

What BYB argues against: a head as wide as a chosen vocabulary of behaviors, here the K most
frequent items. Several window lengths, each told by a prompt, as in the paper; its second term, a
contrast of masked and whole past, is the option `agreement`.

Shapes: B users, K chosen items, D width.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.recipes.methods import MsdpOptions
from models.data.packed import Events, Packed, join, pack
from models.data.rng import Draw
from models.nn.user_model import ModelConfig, UserModel
from models.objectives.base import Objective, Outcome
from models.objectives.views import cut_in_two, hidden
from models.runtime.distributed import share


@dataclass(frozen=True)
class Sample:
    """The past (B sequences; 2B with `agreement`: whole, then in part hidden) and W targets."""

    past: Packed
    shares_WBK: Tensor  # of each item in the window; zeros where the window holds none


class Msdp(Objective):
    """A soft target over K items for each window."""

    def __init__(self, model: ModelConfig, options: MsdpOptions) -> None:
        super().__init__(model, options)
        self.min_events = 2
        self.span = options.span
        self.width = min(options.vocabulary or model.sizes["item"], model.sizes["item"])
        self.prompt = nn.Embedding(len(options.events), model.dim)
        self.head = nn.Linear(model.dim, self.width)

    def sample(self, windows: Events, others: Events, draw: Draw) -> Sample:  # noqa: ARG002
        """Cuts each history in two, and counts the items of each window."""
        past, cut_B = cut_in_two(windows, draw, self.model_config.max_length)
        views = [past]
        if self.options.agreement:
            views.append(hidden(past, draw, "past", self.options.hide_share))
        ahead_T = windows.position_T - cut_B[windows.sequence_T]
        is_known_T = (ahead_T >= 0) & (windows.item_T < self.width)
        shares = []
        for length in self.options.events:
            counted = torch.nonzero(is_known_T & (ahead_T < length))[:, 0]
            cell = windows.sequence_T[counted] * self.width + windows.item_T[counted]
            counts_BK = torch.bincount(cell, minlength=len(cut_B) * self.width).view(len(cut_B), -1)
            shares.append(counts_BK / counts_BK.sum(1, keepdim=True).clamp_min(1))
        return Sample(pack(join(views)), torch.stack(shares).float())

    def forward(self, model: UserModel, sample: Sample) -> Outcome:
        """Compares the predicted with the true distributions."""
        vectors = model(sample.past)
        users = sample.shares_WBK.shape[1]
        users_BD = vectors[:users]
        prompted_WBD = users_BD + self.prompt.weight[:, None, :]
        logs_WBK = self.head(prompted_WBD).log_softmax(dim=2)
        loss = -(sample.shares_WBK * logs_WBK).sum(2).mean()
        figures = {"future_loss": loss.detach()}
        if self.options.agreement:
            agreement = F.cosine_similarity(vectors[users:], users_BD.detach(), dim=1).mean()
            loss = loss + self.options.agreement * (1 - agreement)
            figures["agreement"] = agreement.detach()
        return Outcome(share(users) * loss, users_BD, figures)

    def encoded_events(self, sample: Sample) -> int:
        """The events of the past, hidden view included."""
        return len(sample.past.item_T)
