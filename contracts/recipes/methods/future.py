"""Options of pre-training on the future: what a user does in windows after many past instants."""

from typing import ClassVar, Literal

from contracts.base.schema import Count, Positive, Weight
from contracts.recipes.encoders.base import EncoderOptions
from contracts.recipes.methods.base import MethodOptions, refuse_ages, refuse_query_time


class FutureOptions(MethodOptions):
    """The windows, and how many instants of each user are looked ahead from."""

    name: Literal["future"] = "future"
    summarizes: ClassVar[bool] = True
    reads_forwards: ClassVar[bool] = True
    # Windows ahead; where none are given a 24th, an 8th and a 4th of the time that the log spans.
    days: tuple[Positive, ...] = ()
    cuts: Count = 8  # instants a user and pass
    next_weight: Weight = 0.1  # of the second loss: the item, action and category that come next

    def check(self, encoder: EncoderOptions, fields: tuple[str, ...]) -> None:
        """Needs an encoder whose vectors of all beginnings of a history come in one pass."""
        refuse_ages(fields, self.name)
        refuse_query_time(encoder, self.name)
        if not encoder.is_causal and encoder.name != "bag":
            raise ValueError(
                f"method future needs an encoder that reads forwards, and {encoder.name} sees "
                f"later events: take bag, gru4rec, hstu, or bert4rec or rotary with encoder.causal"
            )
        if encoder.pooling == "attention":
            raise ValueError("method future goes with encoder.pooling mean or last, not attention")
