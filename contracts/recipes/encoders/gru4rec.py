"""Options of GRU4Rec."""

from typing import Literal

from contracts.base.schema import Count
from contracts.recipes.encoders.base import EncoderOptions


class Gru4RecOptions(EncoderOptions):
    """Sizes of the recurrent network."""

    name: Literal["gru4rec"] = "gru4rec"
    layers: Count = 1

    @property
    def is_causal(self) -> bool:
        """A recurrent network reads forwards."""
        return True
