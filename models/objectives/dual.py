"""Dual encoder: a user's past is near the item that comes next, and far from the batch's others.

The comparison of the Barlow Twins paper, after its authors' public code (google-research/federated,
dual_encoder): two towers over one item table, cosine similarity, softmax over the batch. Frequent
items are drawn as negatives more often, so the log of their share is taken off (Yi et al., 2019).

Shapes: B users, D width.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from contracts.recipes.methods import DualOptions
from models.data.packed import Events, Packed, pack
from models.data.rng import Draw
from models.nn.user_model import ModelConfig, UserModel
from models.objectives.base import ItemScore, Objective, Outcome
from models.objectives.views import cut_in_two
from models.runtime.distributed import gather


@dataclass(frozen=True)
class Sample:
    """Each user's past, and what came next."""

    past: Packed
    item_B: Tensor
    action_B: Tensor
    category_B: Tensor
    document_B: Tensor


class Dual(Objective):
    """Context against label, in the batch."""

    def __init__(self, model: ModelConfig, options: DualOptions) -> None:
        super().__init__(model, options)
        self.min_events = self.min_users = 2
        self.span = options.span
        self.register_buffer("seen_V", torch.ones(model.sizes["item"]))

    seen_V: Tensor  # how often each item was a label so far

    @classmethod
    def item_score(cls, options: DualOptions, is_causal: bool) -> ItemScore | None:  # noqa: ARG003
        """By the cosine of user and item."""
        return ItemScore("user", of_content=True, is_cosine=True)

    def sample(self, windows: Events, others: Events, draw: Draw) -> Sample:  # noqa: ARG002
        """Cuts each history in two."""
        past, cut_B = cut_in_two(windows, draw, self.model_config.max_length)
        next_B = windows.starts_B + cut_B
        names = ("item_T", "action_T", "category_T", "document_T")
        return Sample(pack(past), *(getattr(windows, name)[next_B] for name in names))

    def forward(self, model: UserModel, sample: Sample) -> Outcome:
        """Tells each user's next item from those of the others."""
        users_BD = model(sample.past)
        labels_BD = model.behavior.content(
            sample.item_B, sample.action_B, sample.category_B, sample.document_B
        )
        item_B, labels_BD = gather(sample.item_B), gather(labels_BD)
        logits_BB = F.normalize(gather(users_BD), dim=1) @ F.normalize(labels_BD, dim=1).T
        if self.training:
            self.seen_V.index_add_(0, item_B, torch.ones_like(item_B, dtype=self.seen_V.dtype))
        share_B = self.seen_V[item_B] / self.seen_V.sum()
        logits_BB = logits_BB / self.options.temperature - share_B.log()
        right_B = torch.arange(len(item_B), device=item_B.device)
        # The same item twice in a batch is no negative of itself.
        is_same = item_B[:, None] == item_B[None, :]
        is_same.fill_diagonal_(False)
        logits_BB = logits_BB.masked_fill(is_same, float("-inf"))
        accuracy = (logits_BB.detach().argmax(1) == right_B).float().mean()
        return Outcome(F.cross_entropy(logits_BB, right_B), users_BD, {"accuracy": accuracy})

    def encoded_events(self, sample: Sample) -> int:
        """The events of the past."""
        return len(sample.past.item_T)
