"""HSA's upper half: multi-head self-attention and additive attention, as in PTUM (EMNLP 2020).

After the PTUM authors' code: 16 heads of 16 each, without biases, residual, norm or feed-forward
layer; dropout 0.2; additive attention of width 200. Heads keep their width of 16 and their number
follows `dim`, so dim 256 gives the paper's sizes. Unlike there, padding is never attended to. With
titles, the published model is this over the text encoder `attention` (field `text`).

Shapes: T events, D width.
"""

from torch import Tensor, nn

from contracts.recipes.encoders import HsaOptions
from models.data.packed import Packed
from models.nn.encoders import base
from models.nn.encoders.attention import MAX_PADDING, attend, attended
from models.nn.layers import Dropout


class Hsa(base.UserEncoder):
    """One layer of attention: what an event was itself is in its state only as it attends to it."""

    def __init__(self, dim: int, options: HsaOptions) -> None:
        super().__init__(dim, options)
        self.heads = options.heads_of(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.dropout = Dropout(options.dropout)
        for part in self.qkv.weight.chunk(3):
            nn.init.xavier_uniform_(part)

    def states(self, x_TD: Tensor, events: Packed) -> Tensor:
        """Lets every event see all others of its sequence."""
        qkv = self.qkv(self.dropout(x_TD))
        return self.dropout(attend(qkv, events.buckets(MAX_PADDING), self.heads))

    def attention(self, x_TD: Tensor, events: Packed) -> list[base.Attended]:
        """The self-attention."""
        return [attended(self.qkv(x_TD), events.buckets(MAX_PADDING), self.heads)]
