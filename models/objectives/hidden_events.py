"""What a view hides is told by its vector: the helper loss that other objectives may add.

Objectives that compare vectors with vectors (CoLES, Barlow Twins, BYB) ask what makes views of a
user alike, and not what the user did. Telling the hidden events from a softmax over all items, as
PTUM's many-mask variant does, asks for that, and costs one product a view.

Shapes: V views, N hidden events, T events, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.data.packed import MASK, Events
from models.nn.user_model import UserModel
from models.objectives.ptum import item_losses
from models.runtime.distributed import share


@dataclass(frozen=True)
class HiddenEvents:
    """Which view hides each event, and its item."""

    view_N: Tensor
    item_N: Tensor


def hidden_events(whole: Events, view: Events) -> HiddenEvents:
    """What a view hides of the same events seen whole."""
    hidden_N = torch.nonzero((view.item_T == MASK) & (whole.item_T != MASK))[:, 0]
    return HiddenEvents(whole.sequence_T[hidden_N], whole.item_T[hidden_N])


def hidden_loss(model: UserModel, views_VD: Tensor, hidden: HiddenEvents) -> Tensor:
    """The mean loss of telling hidden items from their views' vectors; 0 without any."""
    weight = share(len(hidden.item_N))  # asked on every rank, or some would wait
    if not len(hidden.item_N):
        return 0 * views_VD.sum()
    loss_N, _ = item_losses(model, views_VD, hidden.view_N, hidden.item_N)
    return weight * loss_N.mean()
