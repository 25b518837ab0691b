"""Options of HSTU."""

from typing import Literal

from pydantic import StrictBool, model_validator

from contracts.base.schema import Count
from contracts.recipes.encoders.base import EncoderOptions, check_heads


class HstuOptions(EncoderOptions):
    """Sizes of the blocks, and what their attention knows of time."""

    name: Literal["hstu"] = "hstu"
    layers: Count = 2
    heads: Count = 1
    distances: Count = 256  # between events that are told apart; larger ones are the largest
    time: StrictBool = True  # attention also depends on the time between two events
    # Time counts to when the next event is asked for, not from the event that looks: to the next
    # one in training, to now after the last. It tells when what is predicted happens.
    query_time: StrictBool = False

    @property
    def is_causal(self) -> bool:
        """No event sees a later one."""
        return True

    @property
    def reads_now(self) -> bool:
        """As the option says."""
        return self.query_time

    def check(self, dim: int) -> None:
        """Every head is equally wide."""
        check_heads(dim, self.heads)

    @model_validator(mode="after")
    def _has_time(self) -> "HstuOptions":
        if self.query_time and not self.time:
            raise ValueError("query_time is a part of the bias of time: leave time at true")
        return self
