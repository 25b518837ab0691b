"""Options of masked items (BERT4Rec, Sun et al., 2019)."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from contracts.base.schema import Whole
from contracts.recipes.methods.base import MethodOptions


class MaskedOptions(MethodOptions):
    """How much is hidden."""

    name: Literal["masked"] = "masked"
    ranks_items: ClassVar[bool] = True
    hide_share: Annotated[float, Field(gt=0, lt=1, strict=True)] = 0.2
    chunk: Whole = 0  # targets whose V logits are held at once; 0: by how many items there are
    negatives: Whole = 0  # others' events that hidden ones are told from; 0: all items
