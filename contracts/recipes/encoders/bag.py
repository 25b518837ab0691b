"""Options of mean pooling."""

from typing import Literal

from pydantic import StrictBool

from contracts.base.schema import Count
from contracts.recipes.encoders.base import EncoderOptions


class BagOptions(EncoderOptions):
    """Sizes of the residual layer."""

    name: Literal["bag"] = "bag"
    feedforward: Count = 2  # times the width
    count: StrictBool = False  # adds how many events there are, which a mean does not tell
