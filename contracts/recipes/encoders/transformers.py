"""Options of the two Transformers: BERT4Rec's, and the modern one with rotary positions."""

from typing import Annotated, Literal

from pydantic import Field, StrictBool

from contracts.base.schema import Count
from contracts.recipes.encoders.base import EncoderOptions, check_heads


class TransformerOptions(EncoderOptions):
    """Sizes of a Transformer."""

    layers: Count = 2
    heads: Count = 2
    feedforward: Count = 2  # times the width
    causal: StrictBool = False  # no event sees a later one (SASRec): for predicting the next

    @property
    def is_causal(self) -> bool:
        """As the option says."""
        return self.causal

    def check(self, dim: int) -> None:
        """Every head is equally wide."""
        check_heads(dim, self.heads)


class Bert4RecOptions(TransformerOptions):
    """BERT4Rec's."""

    name: Literal["bert4rec"] = "bert4rec"
    activation: Literal["gelu", "relu"] = "gelu"


class RotaryOptions(TransformerOptions):
    """The gate of the feed-forward layer takes a third of it, so that weights stay as many."""

    name: Literal["rotary"] = "rotary"
    base: Annotated[float, Field(gt=1, strict=True)] = (
        1000.0  # slowest rotation: about so many events a turn
    )

    def check(self, dim: int) -> None:
        """Positions turn pairs of dimensions."""
        if dim % (2 * self.heads):
            raise ValueError(f"dim {dim} does not divide among {self.heads} heads of even width")
