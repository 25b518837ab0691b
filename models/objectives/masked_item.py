"""Masked item: the state of a hidden event predicts its item (BERT4Rec, Sun et al., 2019).

To compare with PTUM, whose user vector predicts what is hidden: here the event's own state does.

Shapes: T events, N hidden ones, D width.
"""

from dataclasses import dataclass

import torch

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

    def __post_init__(self) -> None:
        if not 0 < self.hide_share < 1 or self.chunk < 1:
            raise ValueError("hide_share must lie in (0, 1), and chunk be 1 or more")


@dataclass(frozen=True)
class Sample:
    """The windows with events hidden, and the items as they were, in the same packed order."""

    view: Packed
    whole: Packed


class MaskedItem(Objective):
    """Predicts each hidden event from the events around it."""

    options_class = Options

    def __init__(self, model: ModelConfig, options: Options) -> None:
        super().__init__(model, options)
        self.min_events = 2

    def sample(self, windows: Events, others: Events, draw: Draw) -> Sample:  # noqa: ARG002
        """Hides events."""
        return Sample(pack(hidden(windows, draw, "masked", self.options.hide_share)), pack(windows))

    def forward(self, model: UserModel, sample: Sample) -> Outcome:
        """Predicts the items of what is hidden."""
        view = sample.view
        states_TD = model.encoder.states(model.behaviour(view), view)
        hidden_N = torch.nonzero((view.item_T == MASK) & (sample.whole.item_T != MASK))[:, 0]
        pooled_BD = model.encoder.pool(states_TD.detach(), view)
        weight = share(len(hidden_N))
        if not len(hidden_N):
            return Outcome(0 * states_TD.sum(), pooled_BD, {})
        loss, accuracy = item_loss(
            states_TD[hidden_N],
            sample.whole.item_T[hidden_N],
            model.behaviour.items(),
            self.options.chunk,
        )
        return Outcome(weight * loss, pooled_BD, {"accuracy": accuracy})

    def encoded_events(self, sample: Sample) -> int:
        """Returns the events of the windows."""
        return len(sample.view.item_T)
