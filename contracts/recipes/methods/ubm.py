"""Options of UBM (arXiv 2403.02825)."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StrictBool, model_validator

from contracts.base.schema import BelowOne, Count, Positive, Share, Weight
from contracts.recipes.encoders.base import EncoderOptions
from contracts.recipes.methods.base import MethodOptions, refuse_ages, refuse_query_time


class UbmOptions(MethodOptions):
    """The two stages, and the views of each."""

    name: Literal["ubm"] = "ubm"
    loss_tells: ClassVar[bool] = False  # its two stages have losses of their own
    ranks_items: ClassVar[bool] = True
    # How likely each change of a text is.
    attribute_drop: BelowOne = 0.3  # of a whole attribute
    category_drop: BelowOne = 0.3
    word_drop: BelowOne = 0.1
    word_mask: BelowOne = 0.1
    word_swap: BelowOne = 0.1  # with the word after it
    temperature: Positive = 0.07
    first_share: Share = 0.4  # of training that goes to stage 1; 0 leaves it out, 1 stage 2
    span: Count = 2  # windows are so many times max_length events long
    interactions: Count = 8  # of a window, in a step of stage 1
    id_hide: Share = 0.5  # how likely a view does without the item's id
    query_weight: Weight = 0.5  # of queries against items; 0 leaves them out
    pair_weight: Weight = 0.5  # of items against the items after them; 0 leaves them out
    sessions: Count = 4  # of a window, in a step of stage 2
    shortest: Count = 2  # events of a session
    follows: Count = 16  # interactions of a session told from others; actions take turns
    crop: Annotated[float, Field(gt=0, le=1, strict=True)] = (
        0.6  # of a session that a view keeps at least
    )
    reorder_share: Share = 0.3
    hide_share: BelowOne = 0.3
    own_negatives: StrictBool = False  # are other sessions of a user told apart from one another?
    session_weight: Weight = 0.1  # of sessions' views against each other; 0 leaves them out
    follow_weight: Weight = 1.0  # of sessions against what follows; 0 leaves it out
    read_hide: Share = 0.1  # of items with text, read by their text alone, as a new item is

    def check(self, encoder: EncoderOptions, fields: tuple[str, ...]) -> None:
        """Needs texts in stage 1; an encoder that reads forwards cannot see ages in stage 2."""
        if self.first_share and "text" not in fields:
            raise ValueError(
                "method ubm reads text in its first stage, and fields leave 'text' out: add it, "
                "or set method.first_share to 0"
            )
        if encoder.is_causal and self.follow_weight:
            refuse_ages(fields, "ubm with an encoder that reads forwards")
            refuse_query_time(encoder, self.name)

    @model_validator(mode="after")
    def _leaves_something(self) -> "UbmOptions":
        if self.word_drop + self.word_mask >= 1:
            raise ValueError("word_drop and word_mask leave no word")
        if self.first_share < 1 and not self.session_weight and not self.follow_weight:
            raise ValueError("session_weight and follow_weight leave nothing of the second stage")
        return self
