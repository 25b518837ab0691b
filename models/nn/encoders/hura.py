"""HURA's upper half: a CNN over events and additive attention (Wu et al., WSDM 2019).

Neural Demographic Prediction using Search Query: a CNN sees the local context of each query, and
attention picks the queries that tell. With titles, the published model is this over the text
encoder `cnn` with attention over words (field `text`).

Shapes: T events, D width.
"""

import torch.nn.functional as F
from torch import Tensor

from contracts.recipes.encoders import HuraOptions
from models.data.packed import Packed
from models.nn.encoders import base
from models.nn.encoders.convolution import Convolution
from models.nn.layers import Dropout


class Hura(base.UserEncoder):
    """One convolution, as wide as the event vectors."""

    def __init__(self, dim: int, options: HuraOptions) -> None:
        super().__init__(dim, options)
        self.convolution = Convolution(dim, options.window)
        self.dropout = Dropout(options.dropout)

    def states(self, x_TD: Tensor, events: Packed) -> Tensor:
        """Lets every event see its neighbors."""
        mixed_TD = self.convolution(self.dropout(x_TD), events)
        return self.dropout(F.relu(mixed_TD))
