"""Options of MSDP (Fu et al., 2023)."""

from typing import Annotated, Literal

from pydantic import Field

from contracts.base.schema import BelowOne, Count, Weight, Whole
from contracts.recipes.methods.base import MethodOptions


class MsdpOptions(MethodOptions):
    """The vocabulary, the windows and the weight of the second term."""

    name: Literal["msdp"] = "msdp"
    vocabulary: Whole = 0  # K, of the item vocabulary's most frequent; 0 takes all
    events: Annotated[tuple[Count, ...], Field(min_length=1)] = (10, 30, 50)  # each is predicted
    agreement: Weight = 0.1
    hide_share: BelowOne = 0.3
    span: Count = 2  # histories are cut within so many times max_length events
