"""Options of CoLES (Babaev et al., 2022)."""

from typing import Literal

from pydantic import model_validator

from contracts.base.schema import BelowOne, Count, Positive, Weight
from contracts.recipes.methods.base import MethodOptions


class ColesOptions(MethodOptions):
    """How the slices are drawn, and how sharply they are told apart."""

    name: Literal["coles"] = "coles"
    temperature: Positive = 0.1
    shortest: Count = 5  # events of a slice
    hide_share: BelowOne = 0.0
    hidden_weight: Weight = 0.0  # of the helper loss: hidden events told by their slice's vector
    span: Count = 4  # slices lie within so many times max_length events

    @model_validator(mode="after")
    def _hides_something(self) -> "ColesOptions":
        if self.hidden_weight and not self.hide_share:
            raise ValueError("hidden_weight needs a hide_share above 0")
        return self
