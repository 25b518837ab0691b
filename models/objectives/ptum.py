"""PTUM: pre-training user models from unlabeled behaviors (Wu et al., Findings of EMNLP 2020).

Two tasks, equations as in the paper's section 3:
  masked behavior prediction: one behavior of the user is hidden; the user vector tells it from P
    behaviors of other users, by dot product and a softmax over P + 1;
  next K behaviors prediction: from all but the last K, each of those is told from P others;
  loss = masked + next_weight * mean over K of next.

Where the released script departs from the paper, the paper is followed: each user's next-K task has
the user's own positions and time gaps, what is cut off is absent instead of empty, padding is
never attended to, and histories are not cut to their earliest events (windows lie at random). A
candidate's position would add the same number to all P + 1 logits, so candidates carry none.

`ManyMask` is what learns more from the same events: every second event is hidden, all of them are
predicted by the softmax over the vocabulary, and the loss is the mean over hidden events. A mean
over users, whose short histories then weigh as much as long ones, measured worse.

Shapes: B users, T events, N targets, C = P + 1 candidates (the first is the right one), D width.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from contracts.recipes.methods import PtumOptions
from models.data.packed import Events, Packed, join, pack
from models.data.rng import Draw
from models.nn.user_model import ModelConfig, UserModel
from models.objectives.base import ItemScore, Objective, Outcome
from models.runtime.distributed import share

SPARE = 2  # others drawn in excess, to replace those equal to the target


@dataclass(frozen=True)
class Sample:
    """2B sequences (masked, then without the last K) and the N events to tell from others."""

    views: Packed
    view_N: Tensor  # the sequence whose vector predicts each target
    weight_N: Tensor  # share of each target in the loss
    counts: tuple[int, int]  # of masked targets, which come first, and of next ones
    item_NC: Tensor  # candidates; without negatives, the target alone
    action_NC: Tensor
    category_NC: Tensor
    document_NC: Tensor
    equal_NC: Tensor  # a candidate that is no other behavior than the target, and no contrast


class Ptum(Objective):
    """Masked behavior and next K behaviors."""

    def __init__(self, model: ModelConfig, options: PtumOptions) -> None:
        super().__init__(model, options)
        self.next_events = options.next_events if options.next_weight > 0 else 0
        self.min_events = max(2, self.next_events + 1)
        per_target = options.negatives + SPARE if options.negatives else 0
        self.others = (1 + self.next_events) * per_target

    @classmethod
    def item_score(cls, options: PtumOptions, is_causal: bool) -> ItemScore | None:  # noqa: ARG003
        """By the user vector; without negatives it is compared with the items alone."""
        return ItemScore("user", of_content=options.negatives > 0)

    def sample(self, windows: Events, others: Events, draw: Draw) -> Sample:
        """Hides, cuts and draws."""
        users = len(windows.lengths_B)
        views, targets = [], []
        if self.options.masked_weight > 0:
            hidden_T = _choose_hidden(windows, draw, self.options.hide_share)
            views.append(windows.hide(hidden_T))
            targets.append(_masked_targets(windows, hidden_T, self.options.masked_weight))
        if self.next_events:
            everyone = torch.arange(users)
            past = windows.lengths_B - self.next_events
            views.append(windows.cut(everyone, torch.zeros_like(everyone), past))
            offset = users * (len(views) - 1)
            targets.append(_next_targets(windows, self.next_events, offset, self.options))
        index_N, view_N, slot_N, weight_N = map(torch.cat, zip(*targets, strict=True))
        nexts = users * self.next_events
        other_NP = self._others_of(windows.sequence_T[index_N], slot_N)
        fields = [
            torch.cat([getattr(windows, f)[index_N, None], getattr(others, f)[other_NP]], dim=1)
            for f in ("item_T", "action_T", "category_T", "document_T")
        ]
        candidates = self._without_spares(*fields)
        counts = (len(index_N) - nexts, nexts)
        return Sample(pack(join(views)), view_N, weight_N, counts, *candidates)

    def forward(self, model: UserModel, sample: Sample) -> Outcome:
        """Tells each target from its candidates."""
        users_BD = model(sample.views)
        if self.options.negatives:
            loss_N, is_right_N = _among_candidates(model, users_BD, sample)
        else:
            loss_N, is_right_N = item_losses(model, users_BD, sample.view_N, sample.item_NC[:, 0])
        masked, nexts = (loss_N * sample.weight_N).split(sample.counts)
        return Outcome(
            loss=share(len(masked)) * masked.sum() + share(len(nexts)) * nexts.sum(),
            users_BD=users_BD,
            figures=_figures(loss_N.detach(), is_right_N, sample.counts),
        )

    def encoded_events(self, sample: Sample) -> int:
        """The events of both views."""
        return len(sample.views.item_T)

    def _others_of(self, user_N: Tensor, slot_N: Tensor) -> Tensor:
        """Which events of other users stand against each target, spares included.

        Each of a user's 1 + K slots has its own; targets of one slot (many hidden) share them.
        """
        per_target = self.others // (1 + self.next_events)
        first_N = user_N * self.others + slot_N * per_target
        return first_N[:, None] + torch.arange(per_target)

    def _without_spares(self, *fields: Tensor) -> tuple[Tensor, ...]:
        """Keeps the target and the first P others that differ from it in item, action or text."""
        item, action, _, document = fields
        equal = (item == item[:, :1]) & (action == action[:, :1])
        if "text" in self.model_config.fields:  # two queries have no item, and are not the same
            equal &= document == document[:, :1]
        equal[:, 0] = False
        keep = torch.sort(equal.to(torch.int8), dim=1, stable=True).indices
        keep = keep[:, : 1 + self.options.negatives]
        return tuple(x.gather(1, keep) for x in (*fields, equal))


class ManyMask(Ptum):
    """PTUM's masked behaviors alone, half of all events at once, each told from all items."""


def _choose_hidden(windows: Events, draw: Draw, share: float) -> Tensor:
    """Returns true for one random event of each user or, with a share, for each with that chance.

    One at least is hidden of every user, and one at least is not.
    """
    lengths = windows.lengths_B.numpy()
    one_B = windows.starts_B + torch.from_numpy(draw.integers("hidden", lengths)[:, 0])
    hidden_T = torch.zeros(len(windows.item_T), dtype=torch.bool)
    if share:
        chance_BL = draw.uniform("hide_share", int(lengths.max()))
        chance_T = chance_BL[windows.sequence_T.numpy(), windows.position_T.numpy()]
        hidden_T = torch.from_numpy(chance_T < share)
        seen = 1 + draw.integers("seen", lengths - 1)[:, 0]
        shift = (one_B - windows.starts_B).numpy() + seen
        hidden_T[windows.starts_B + torch.from_numpy(np.mod(shift, lengths))] = False
    hidden_T[one_B] = True
    return hidden_T


_Targets = tuple[Tensor, Tensor, Tensor, Tensor]  # event, view, slot, weight


def _masked_targets(windows: Events, hidden_T: Tensor, weight: float) -> _Targets:
    index_N = torch.nonzero(hidden_T)[:, 0]
    view_N = windows.sequence_T[index_N]
    weight_N = torch.full((len(index_N),), weight / len(index_N))
    zeros = torch.zeros_like(index_N)
    return index_N, view_N, zeros, weight_N


def _next_targets(windows: Events, k: int, offset: int, options: PtumOptions) -> _Targets:
    users = len(windows.lengths_B)
    ends_B = windows.starts_B + windows.lengths_B
    index_N = (ends_B[:, None] - k + torch.arange(k)).reshape(-1)
    view_N = offset + torch.arange(users).repeat_interleave(k)
    weight_N = torch.full((users * k,), options.next_weight / (users * k))
    return index_N, view_N, 1 + torch.arange(k).repeat(users), weight_N


def item_losses(
    model: UserModel, users_BD: Tensor, user_N: Tensor, item_N: Tensor
) -> tuple[Tensor, Tensor]:
    """The loss of each item under its user's softmax over all items, and whether it is top.

    A user is scored once, however many items are asked of it.
    """
    catalog = model.behavior.catalog(item_N)
    logs_BC, place_N = catalog.scores(users_BD).log_softmax(dim=1), catalog.place(item_N)
    return -logs_BC[user_N, place_N], logs_BC.detach().argmax(1)[user_N] == place_N


def _among_candidates(model: UserModel, users_BD: Tensor, sample: Sample) -> tuple[Tensor, Tensor]:
    """The loss of each target among its P + 1 candidates, and whether it is top."""
    content = model.behavior.content(
        sample.item_NC, sample.action_NC, sample.category_NC, sample.document_NC
    )
    logits_NC = torch.einsum("nd,ncd->nc", users_BD[sample.view_N], content)
    logits_NC = logits_NC.masked_fill(sample.equal_NC, float("-inf"))
    right_N = torch.zeros_like(sample.view_N)
    loss_N = F.cross_entropy(logits_NC, right_N, reduction="none")
    return loss_N, logits_NC.detach().argmax(1) == right_N


def _figures(loss_N: Tensor, is_right_N: Tensor, counts: tuple[int, int]) -> dict[str, Tensor]:
    figures = {"accuracy": is_right_N.float().mean()}
    for name, losses in zip(("masked", "next"), loss_N.split(counts), strict=True):
        if len(losses):
            figures[f"{name}_loss"] = losses.mean()
    return figures
