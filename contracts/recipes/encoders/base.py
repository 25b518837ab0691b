"""What the options of every user encoder have in common."""

from typing import Any, Literal

from contracts.base.schema import BelowOne, Count, Strict

Pooling = Literal["mean", "last", "attention"]


class EncoderOptions(Strict):
    """Options of an encoder; a subclass adds `name`, the name it goes by, and its own."""

    name: Any  # a literal in each subclass
    dropout: BelowOne = 0.1
    pooling: Pooling = "mean"  # of the states of a user
    attention: Count = 200  # width of the hidden layer of attention pooling

    @property
    def is_causal(self) -> bool:
        """No event sees a later one, as predicting the next one needs."""
        return False

    @property
    def reads_now(self) -> bool:
        """States depend on when what comes after each event is asked for."""
        return False

    def check(self, dim: int) -> None:
        """Refuses widths that the encoder cannot have.

        Raises:
          ValueError: the width does not fit, in a sentence.
        """


def check_heads(dim: int, heads: int) -> None:
    """Refuses a width that heads of attention cannot share.

    Raises:
      ValueError: it does not divide.
    """
    if dim % heads:
        raise ValueError(f"dim {dim} does not divide among {heads} heads")
