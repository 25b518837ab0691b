"""Options of next-item prediction."""

from typing import ClassVar, Literal

from contracts.base.schema import Whole
from contracts.recipes.encoders.base import EncoderOptions
from contracts.recipes.methods.base import MethodOptions, refuse_ages


class NextOptions(MethodOptions):
    """How many events are predicted at a time."""

    name: Literal["next"] = "next"
    ranks_items: ClassVar[bool] = True
    reads_forwards: ClassVar[bool] = True
    chunk: Whole = 0  # targets whose V logits are held at once; 0: as many as take 32 MB

    def check(self, encoder: EncoderOptions, fields: tuple[str, ...]) -> None:
        """Needs an encoder in which no event sees a later one."""
        refuse_ages(fields, self.name)
        if not encoder.is_causal:
            raise ValueError(
                f"method next needs an encoder that reads forwards, and {encoder.name} sees the "
                f"next item itself: take gru4rec, or bert4rec or rotary with encoder.causal"
            )
