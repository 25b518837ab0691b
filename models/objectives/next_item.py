"""Next item: every event's state predicts the item of the event after it.

The task of GRU4Rec (Hidasi et al., 2016) and SASRec (Kang and McAuley, 2018), with the softmax over
all items in the place of sampled negatives. To compare with, and to rank items with.

Shapes: T events, N targets, C items that are scored, D width.
"""

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F

from contracts.recipes.methods import NextOptions
from models.data.packed import Events, Packed, pack
from models.data.rng import Draw
from models.data.sequences import Sequences
from models.nn.user_model import ModelConfig, UserModel
from models.objectives.base import ItemScore, Objective, Outcome
from models.objectives.item_loss import item_loss
from models.runtime.distributed import share


class NextItem(Objective):
    """Needs an encoder in which no event sees a later one."""

    needs_encoder = True

    def __init__(self, model: ModelConfig, options: NextOptions) -> None:
        super().__init__(model, options)
        self.min_events = 2

    @classmethod
    def item_score(cls, options: NextOptions, is_causal: bool) -> ItemScore | None:
        """By the state after each event, which only an encoder that reads forwards has."""
        return ItemScore("state", is_cosine=options.temperature > 0) if is_causal else None

    def read(self, sequences: Sequences, draw: Draw) -> Packed:
        """Reads random windows of the users of a draw, or their last events."""
        if self.options.windows == "random":
            return super().read(sequences, draw)
        length_B = sequences.lengths[draw.users_B]
        taken_B = np.minimum(length_B, self.model_config.max_length)
        return pack(sequences.windows(draw.users_B, length_B - taken_B, taken_B))

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
        query_ND, catalog = states_TD[now_N], model.behavior.catalog(item_N)
        if temperature := self.options.temperature:
            query_ND = F.normalize(query_ND, dim=1) / temperature
            items_CD = F.normalize(catalog.items_CD, dim=1)
            catalog = dataclasses.replace(catalog, items_CD=items_CD)
        loss, accuracy = item_loss(query_ND, item_N, catalog, self.options.chunk)
        pooled_BD = model.encoder.pool(states_TD.detach(), sample)
        return Outcome(share(len(now_N)) * loss, pooled_BD, {"accuracy": accuracy})

    def encoded_events(self, sample: Packed) -> int:
        """The events of the windows."""
        return len(sample.item_T)
