"""Options of PTUM (Findings of EMNLP 2020), and of its variant that hides many events."""

from typing import ClassVar, Literal

from pydantic import model_validator

from contracts.base.schema import BelowOne, Weight, Whole
from contracts.recipes.methods.base import MethodOptions


class PtumOptions(MethodOptions):
    """Defaults of the paper."""

    name: Literal["ptum"] = "ptum"
    ranks_items: ClassVar[bool] = True
    next_events: Whole = 2  # K; 0 leaves the task out
    next_weight: Weight = 1.0  # lambda
    negatives: Whole = 4  # P; 0 takes the softmax over the whole item vocabulary
    masked_weight: Weight = 1.0  # 0 leaves the task out
    hide_share: BelowOne = 0.0  # of all events, hidden and predicted alike; 0: one of each user

    @model_validator(mode="after")
    def _has_a_task(self) -> "PtumOptions":
        if self.masked_weight == 0 and (self.next_weight == 0 or self.next_events == 0):
            raise ValueError("both tasks are left out")
        return self


class ManyMaskOptions(PtumOptions):
    """Defaults of the variant."""

    name: Literal["manymask"] = "manymask"  # type: ignore[assignment]
    next_weight: Weight = 0.0
    negatives: Whole = 0
    hide_share: BelowOne = 0.5
