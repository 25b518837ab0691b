"""Next item: every event's state predicts the item of the event after it.

The task of GRU4Rec (Hidasi et al., 2016) and SASRec (Kang and McAuley, 2018), with the softmax over
all items in the place of sampled negatives. To compare with, and to rank items with.

Shapes: T events, N targets, C items that are scored, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from contracts.recipes.methods import NextOptions
from models.data.packed import Events, Packed, pack
from models.data.rng import Draw
from models.nn.catalog import Catalog
from models.nn.user_model import ModelConfig, UserModel
from models.objectives.base import ItemScore, Objective, Outcome
from models.runtime.distributed import share

LOGITS = 8 << 20  # that are held at once: 32 MB


class NextItem(Objective):
    """Needs an encoder in which no event sees a later one."""

    needs_encoder = True

    def __init__(self, model: ModelConfig, options: NextOptions) -> None:
        super().__init__(model, options)
        self.min_events = 2

    @classmethod
    def item_score(cls, options: NextOptions, is_causal: bool) -> ItemScore | None:  # noqa: ARG003
        """By the state after each event, which only an encoder that reads forwards has."""
        return ItemScore("state") if is_causal else None

    def sample(self, windows: Events, others: Events, draw: Draw) -> Packed:  # noqa: ARG002
        """Takes the windows as they are."""
        return pack(windows)

    def forward(self, model: UserModel, sample: Packed) -> Outcome:
        """Predicts each event but the first of each sequence."""
        assert model.config.encoder.is_causal, "the encoder sees the next item itself"
        assert "age" not in model.config.fields, "ages tell how much is still to come"
        states_TD = model.encoder.states(model.behavior(sample), sample)
        # Events of a sequence lie side by side, so the next one is one row on.
        has_next_T = sample.position_T + 1 < sample.lengths_B[sample.sequence_T]
        now_N = torch.nonzero(has_next_T)[:, 0]
        item_N = sample.item_T[now_N + 1]
        loss, accuracy = item_loss(
            states_TD[now_N], item_N, model.behavior.catalog(item_N), self.options.chunk
        )
        pooled_BD = model.encoder.pool(states_TD.detach(), sample)
        return Outcome(share(len(now_N)) * loss, pooled_BD, {"accuracy": accuracy})

    def encoded_events(self, sample: Packed) -> int:
        """The events of the windows."""
        return len(sample.item_T)


def item_loss(
    query_ND: Tensor, item_N: Tensor, catalog: Catalog, chunk: int
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy and accuracy over all items, a chunk of targets at a time.

    Larger logits are not faster: the machine asks the system for their memory anew each time.
    """
    losses, right = [], []
    chunk = chunk or max(1, LOGITS // len(catalog.items_CD))
    place_N = catalog.place(item_N)
    for query_nD, place_n in zip(query_ND.split(chunk), place_N.split(chunk), strict=True):
        logits_nC = catalog.scores(query_nD)
        losses.append(F.cross_entropy(logits_nC, place_n, reduction="sum"))
        right.append((logits_nC.detach().argmax(1) == place_n).sum())
    return torch.stack(losses).sum() / len(item_N), torch.stack(right).sum() / len(item_N)
