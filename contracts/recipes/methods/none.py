"""Random initialization: the baseline without pre-training."""

from typing import ClassVar, Literal

from contracts.recipes.methods.base import MethodOptions


class NoneOptions(MethodOptions):
    """There is nothing to choose."""

    name: Literal["none"] = "none"
    trains: ClassVar[bool] = False
