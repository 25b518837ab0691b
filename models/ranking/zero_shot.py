"""Rankings by the score that a method's own pre-training trains, without a head.

How a method scores items is `item_score` of its objective. The model sees the last max_length
events of each example.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from contracts.recipes.methods import MethodOptions
from models.data.packed import Events, pack, ragged_arange, to_device
from models.data.sequences import Sequences
from models.nn.encoders.pooling import LastPooling
from models.nn.user_model import UserModel
from models.objectives import OBJECTIVES
from models.objectives.base import ItemScore

_LAST = LastPooling(0, 0)  # has no weights


@dataclass(frozen=True)
class Native:
    """A pre-trained model and how it scores items.

    Attributes:
      items_VD: what is compared: the items, or the content of an event of each; of length 1 where
        the score is a cosine.
    """

    score: ItemScore
    model: UserModel
    items_VD: Tensor

    def __call__(self, windows: Events) -> Tensor:
        """Scores all items for windows -> [n, V]."""
        return self.scores(self.queries(windows))

    @torch.no_grad()
    def queries(self, windows: Events) -> Tensor:
        """What items are compared with, of each window -> [n, D]."""
        model = self.model.eval()
        if self.score.by == "hidden":
            windows = _with_hidden(windows, model.config.max_length)
        events = to_device(pack(windows), next(model.parameters()).device)
        if self.score.by == "user":
            seen_nD = model(events)
        else:
            seen_nD = _LAST(model.encoder.states(model.behavior(events), events), events)
        return F.normalize(seen_nD, dim=1) if self.score.is_cosine else seen_nD

    @torch.no_grad()
    def scores(self, query_nD: Tensor) -> Tensor:
        """Scores all items for queries -> [n, V]."""
        return query_nD @ self.items_VD.T


@torch.no_grad()
def native(method: MethodOptions, model: UserModel, sequences: Sequences) -> Native | None:
    """What scores items without a head, or nothing where pre-training trains no such score.

    Args:
      method: of the pre-training.
      model: the pre-trained model.
      sequences: give the items' categories.
    """
    score = OBJECTIVES[method.name].item_score(method, model.config.encoder.is_causal)
    if score is None:
        return None
    items_VD = _content(model, sequences) if score.of_content else model.eval().behavior.items()
    items_VD = items_VD.detach()
    return Native(score, model, F.normalize(items_VD, dim=1) if score.is_cosine else items_VD)


def _content(model: UserModel, sequences: Sequences) -> Tensor:
    device = next(model.parameters()).device
    items_V = torch.arange(sequences.sizes["item"], device=device)
    category_V = torch.from_numpy(np.asarray(sequences.item_category, dtype=np.int64)).to(device)
    commonest = int(np.bincount(sequences.action).argmax())
    return model.eval().behavior.content(items_V, torch.full_like(items_V, commonest), category_V)


def _with_hidden(windows: Events, longest: int) -> Events:
    """Adds a hidden event at the end of each window; a full one loses its first."""
    lengths = windows.lengths_B
    kept = torch.clamp(lengths, max=longest - 1)
    first_T = torch.repeat_interleave(windows.starts_B + lengths - kept, kept + 1)
    last_T = torch.repeat_interleave(windows.starts_B + lengths - 1, kept + 1)
    # The last event comes twice, and what is hidden of it is all but its place.
    index_T = torch.minimum(first_T + ragged_arange(kept + 1), last_T)
    longer = windows.pick(index_T, kept + 1, windows.clock)
    return longer.hide(longer.position_T == torch.repeat_interleave(kept, kept + 1))
