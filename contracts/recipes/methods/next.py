"""Options of next-item prediction."""

from typing import ClassVar, Literal

from contracts.base.schema import Weight, Whole
from contracts.recipes.encoders.base import EncoderOptions
from contracts.recipes.methods.base import MethodOptions, refuse_ages


class NextOptions(MethodOptions):
    """How items are scored, and which events are read."""

    name: Literal["next"] = "next"
    ranks_items: ClassVar[bool] = True
    reads_forwards: ClassVar[bool] = True
    temperature: Weight = 0.0  # of the cosine of state and item; 0: their dot product, as it is
    windows: Literal["random", "last"] = "random"  # max_length events of each user and pass
    chunk: Whole = 0  # targets whose V logits are held at once; 0: by how many items there are

    def check(self, encoder: EncoderOptions, fields: tuple[str, ...]) -> None:
        """Needs an encoder in which no event sees a later one."""
        refuse_ages(fields, self.name)
        if not encoder.is_causal:
            raise ValueError(
                f"method next needs an encoder that reads forwards, and {encoder.name} sees the "
                f"next item itself: take gru4rec or hstu, or bert4rec or rotary with encoder.causal"
            )
