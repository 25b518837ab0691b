"""Options of the dual encoder."""

from typing import ClassVar, Literal

from contracts.base.schema import Count, Positive
from contracts.recipes.methods.base import MethodOptions


class DualOptions(MethodOptions):
    """How sharply items are told apart."""

    name: Literal["dual"] = "dual"
    ranks_items: ClassVar[bool] = True
    temperature: Positive = 0.1
    span: Count = 2  # histories are cut within so many times max_length events
