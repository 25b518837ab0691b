"""GRU4Rec-style user encoder: a recurrent network over the events (Hidasi et al., ICLR 2016).

Runs on a few rectangles of similar length: torch's packed sequences are five times slower on CPU.
"""

import torch
from torch import Tensor, nn

from contracts.recipes.encoders import Gru4RecOptions
from models.data.packed import Packed
from models.nn.encoders import base
from models.nn.layers import Dropout

MAX_PADDING = 0.2  # a rectangle costs as many steps as it is long, so a few wide ones are better


class Gru4Rec(base.UserEncoder):
    """One GRU, as wide as the event vectors."""

    def __init__(self, dim: int, options: Gru4RecOptions) -> None:
        super().__init__(dim, options)
        self.dropout = Dropout(options.dropout)
        self.gru = nn.GRU(dim, dim, options.layers, batch_first=True)

    def states(self, x_TD: Tensor, events: Packed) -> Tensor:
        """Lets every event see those before it."""
        buckets = events.buckets(MAX_PADDING)
        parts = self.dropout(x_TD).split([bucket.events for bucket in buckets])
        rectangles = [b.to_rectangle(part) for b, part in zip(buckets, parts, strict=True)]
        mixed = [self.gru(rectangle)[0] for rectangle in rectangles]
        return torch.cat([b.to_rows(part) for b, part in zip(buckets, mixed, strict=True)])
