"""Options of BYB (arXiv 2506.11053)."""

from typing import ClassVar, Literal

from pydantic import model_validator

from contracts.base.schema import BelowOne, Count, Positive, Share, Weight
from contracts.recipes.methods.base import MethodOptions


class BybOptions(MethodOptions):
    """Windows, guards against collapse, and the two losses."""

    name: Literal["byb"] = "byb"
    loss_tells: ClassVar[bool] = False  # a student may agree with a teacher that tells nothing
    events: tuple[Count, ...] = (10, 30, 50)  # windows by count; one is drawn a user and step
    days: tuple[Positive, ...] = ()  # windows by time, drawn alike
    cut: Literal["event", "time"] = "event"  # between two events, or at an instant of a user's time
    empty_share: BelowOne = 0.5  # cut in time: of the first loss, at most, is the silent's; 0: none
    loss: Literal["byol", "dino"] = "byol"
    projector: Count = 256
    momentum: Share = 0.99  # of the teacher at first; it rises to 1 as a cosine
    hide_share: BelowOne = 0.5  # of the student's events
    hidden_weight: Weight = 1.0  # of the helper loss; 0.3 measured worse
    span: Count = 2  # histories are cut within so many times max_length events

    @model_validator(mode="after")
    def _has_windows(self) -> "BybOptions":
        if not self.events and not self.days:
            raise ValueError("events and days are both empty: give a window")
        return self
