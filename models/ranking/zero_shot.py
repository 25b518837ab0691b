"""Rankings by the score that a method's own pre-training trains, without a head.

`next`, `masked` and `ubm` of an encoder that reads forwards score items by a state; `ptum`,
`manymask`, `dual` and other `ubm` by the user vector. The other methods train no score of items.
The model sees the last max_length events of each example.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from contracts.recipes.methods import DualOptions, MethodOptions, PtumOptions, UbmOptions
from models.data.packed import Events, Packed, pack, ragged_arange, to_device
from models.data.sequences import Sequences
from models.nn.encoders.pooling import LastPooling
from models.nn.user_model import UserModel

_LAST = LastPooling(0, 0)  # has no weights


@dataclass(frozen=True)
class Native:
    """A pre-trained model and what it scores.

    Attributes:
      content_VD: the events that objectives compare users with: each item, its category and the
        commonest action; None where a method compares with the items alone.
    """

    method: str
    model: UserModel
    content_VD: Tensor | None

    @torch.no_grad()
    def __call__(self, windows: Events) -> Tensor:
        """Scores all items for windows -> [n, V] on the CPU."""
        model = self.model.eval()
        if self.method == "next":
            return self._by_state(self._on_device(windows))
        if self.method == "masked":
            return self._by_state(self._on_device(_with_hidden(windows, model.config.max_length)))
        if self.method == "ubm" and model.config.encoder.is_causal:
            return self._by_state(self._on_device(windows))
        users_nD = model(self._on_device(windows))
        items_VD = model.behavior.items() if self.content_VD is None else self.content_VD
        if self.method == "dual":
            users_nD, items_VD = F.normalize(users_nD, dim=1), F.normalize(items_VD, dim=1)
        return (users_nD @ items_VD.T).cpu()

    def _by_state(self, events: Packed) -> Tensor:
        states_TD = self.model.encoder.states(self.model.behavior(events), events)
        items_VD = self.model.behavior.items() if self.content_VD is None else self.content_VD
        return (_LAST(states_TD, events) @ items_VD.T).cpu()

    def _on_device(self, windows: Events) -> Packed:
        return to_device(pack(windows), next(self.model.parameters()).device)


def native(method: MethodOptions, model: UserModel, sequences: Sequences) -> Native | None:
    """Returns what scores items without a head, or nothing where pre-training trains no such score.

    Args:
      method: of the pre-training.
      model: the pre-trained model.
      sequences: give the items' categories.
    """
    if not method.ranks_items:
        return None
    if isinstance(method, UbmOptions) and not (method.follow_weight and method.first_share < 1):
        return None
    told_from_events = isinstance(method, DualOptions | UbmOptions) or (
        isinstance(method, PtumOptions) and method.negatives > 0
    )
    return Native(method.name, model, _content(model, sequences) if told_from_events else None)


@torch.no_grad()
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
