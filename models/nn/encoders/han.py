"""HAN's upper half: a bidirectional recurrent network and additive attention (Yang et al., 2016).

Hierarchical Attention Networks for Document Classification, NAACL 2016: there with GRU cells over
sentences, here over events; PTUM calls its own an attentional LSTM, which is the option `cell`.
With titles, the published model is this over a recurrent text encoder with attention over words;
the nearest that the field `text` offers is `cnn` or `attention`.

Each direction runs forwards over packed buckets, one of them over the events turned around, so that
neither begins in padding.

Shapes: T events, D width.
"""

import torch
from torch import Tensor, nn

from contracts.recipes.encoders import HanOptions
from models.data.buckets import Bucket
from models.data.packed import Packed
from models.nn.encoders import base
from models.nn.encoders.gru4rec import MAX_PADDING
from models.nn.layers import Dropout


class Han(base.UserEncoder):
    """Two recurrent networks, each half as wide as the event vectors."""

    def __init__(self, dim: int, options: HanOptions) -> None:
        super().__init__(dim, options)
        kind = nn.GRU if options.cell == "gru" else nn.LSTM
        self.ahead = kind(dim, dim // 2, batch_first=True)
        self.back = kind(dim, dim // 2, batch_first=True)
        self.dropout = Dropout(options.dropout)

    def states(self, x_TD: Tensor, events: Packed) -> Tensor:
        """Lets every event see those before it in one half, those after it in the other."""
        buckets, turn_T = events.buckets(MAX_PADDING), _backwards(events)
        x_TD = self.dropout(x_TD)
        ahead = _run(self.ahead, x_TD, buckets)
        back = _run(self.back, x_TD[turn_T], buckets)[turn_T]
        return self.dropout(torch.cat([ahead, back], dim=1))


def _run(network: nn.Module, x_TD: Tensor, buckets: list[Bucket]) -> Tensor:
    parts = x_TD.split([bucket.events for bucket in buckets])
    rows = [
        bucket.to_rows(network(bucket.to_rectangle(part))[0])
        for bucket, part in zip(buckets, parts, strict=True)
    ]
    return torch.cat(rows)


def _backwards(events: Packed) -> Tensor:
    """The index [T] that turns each sequence around; it undoes itself."""
    last_T = events.lengths_B[events.sequence_T] - 1
    here_T = torch.arange(len(events.position_T), device=events.position_T.device)
    return here_T + last_T - 2 * events.position_T
