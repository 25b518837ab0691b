"""Options of the text encoders."""

from typing import Literal

from pydantic import NonNegativeInt

from contracts.base.schema import BelowOne, Count, Strict


class TextOptions(Strict):
    """Which encoder, its sizes, and what it reads."""

    encoder: Literal["mean", "cnn", "attention", "gru", "transformer"] = "mean"
    width: NonNegativeInt = 0  # of a word vector; 0: as wide as an event's
    dropout: BelowOne = 0.1
    layers: Count = 2  # of the transformer
    heads: Count = 2  # of the transformer; attention has heads of width 16
    window: Count = 3  # words that the cnn sees at a time
    hidden: Count = 200  # width of additive attention
    places: Count = 64  # word positions told apart; later ones count as the last
    # With more texts of items than so many, a softmax over all items reads in a step of training
    # those that are right and so many others; 0 reads all.
    sampled: NonNegativeInt = 512
    action: bool = False  # the action stands in front of the words
    markers: tuple[str, ...] = ()  # fields that are read, such as [TITLE]; all where it is empty

    def check(self, dim: int) -> None:
        """Every head is equally wide.

        Raises:
          ValueError: the width does not fit, in a sentence.
        """
        width = self.width or dim
        if self.encoder == "transformer" and width % self.heads:
            raise ValueError(f"text: width {width} does not divide among {self.heads} heads")
