"""CoLES: slices of one user are alike, slices of different users are not (Babaev et al., 2022).

Two random slices of each user's history; each slice tells the other slice of its user from all
slices of the batch by cosine and a softmax (InfoNCE, the loss of NT-Xent in Chen et al., 2020, in
the place of the paper's margin loss). By `hidden_weight`, each slice also tells what it hides.

Shapes: B users, V = 2B views, D width.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from contracts.recipes.methods import ColesOptions
from models.data.packed import Events, Packed, join, pack
from models.data.rng import Draw
from models.nn.user_model import ModelConfig, UserModel
from models.objectives.base import Objective, Outcome
from models.objectives.hidden_events import HiddenEvents, hidden_events, hidden_loss
from models.objectives.views import hidden, slices
from models.runtime.distributed import gather


@dataclass(frozen=True)
class Sample:
    """2B slices, and what they hide."""

    views: Packed
    hidden: HiddenEvents


class Coles(Objective):
    """Two slices of a user against those of all other users of the batch."""

    def __init__(self, model: ModelConfig, options: ColesOptions) -> None:
        super().__init__(model, options)
        self.min_events = 2
        self.span = options.span

    def sample(self, windows: Events, others: Events, draw: Draw) -> Sample:  # noqa: ARG002
        """Cuts two slices of each user."""
        options, longest = self.options, self.model_config.max_length
        slices_of = [slices(windows, draw, name, options.shortest, longest) for name in "ab"]
        pairs = zip(slices_of, "ab", strict=True)
        views = join([hidden(view, draw, name, options.hide_share) for view, name in pairs])
        return Sample(pack(views), hidden_events(join(slices_of), views))

    def forward(self, model: UserModel, sample: Sample) -> Outcome:
        """Tells each slice's partner from the other slices."""
        views_VD = model(sample.views)
        everyone_VD = torch.cat([gather(view_BD) for view_BD in views_VD.chunk(2)])
        loss, accuracy = info_nce(everyone_VD, self.options.temperature)
        figures = {"accuracy": accuracy}
        if self.options.hidden_weight:
            helper = hidden_loss(model, views_VD, sample.hidden)
            loss = loss + self.options.hidden_weight * helper
            figures["hidden_loss"] = helper.detach()
        return Outcome(loss, views_VD, figures)

    def encoded_events(self, sample: Sample) -> int:
        """The events of both slices."""
        return len(sample.views.item_T)


def info_nce(views_VD: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The loss and accuracy of telling view n's partner n + B (and back) from the rest."""
    unit_VD = F.normalize(views_VD, dim=1)
    logits_VV = unit_VD @ unit_VD.T / temperature
    logits_VV = logits_VV - torch.diag_embed(torch.full_like(logits_VV[0], torch.inf))
    partner_V = torch.arange(len(views_VD), device=views_VD.device).roll(len(views_VD) // 2)
    accuracy = (logits_VV.detach().argmax(1) == partner_V).float().mean()
    return F.cross_entropy(logits_VV, partner_V), accuracy
