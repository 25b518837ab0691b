"""Options of the text encoders."""

from typing import Literal

from pydantic import StrictBool

from contracts.base.schema import BelowOne, Count, Strict, Whole
from contracts.recipes.encoders import (
    Bert4RecOptions,
    EncoderOptions,
    HanOptions,
    HsaOptions,
    HuraOptions,
)


class TextOptions(Strict):
    """Which encoder, its sizes, and what it reads."""

    encoder: Literal["mean", "cnn", "attention", "gru", "transformer"] = "mean"
    width: Whole = 0  # of a word vector; 0: as wide as an event's
    dropout: BelowOne = 0.1
    layers: Count = 2  # of the transformer
    heads: Count = 2  # of the transformer; attention has heads of width 16
    window: Count = 3  # words that the cnn sees at a time
    hidden: Count = 200  # width of additive attention
    places: Count = 64  # word positions told apart; later ones count as the last
    # With more texts of items than so many, a softmax over all items reads those that are right and
    # so many others; 0 reads all.
    sampled: Whole = 512
    action: StrictBool = False  # the action stands in front of the words
    markers: tuple[str, ...] = ()  # fields that are read, such as [TITLE]; all where it is empty

    @property
    def words(self) -> EncoderOptions | None:
        """The user encoder that reads the words of a document; none: they are averaged."""
        common = {"dropout": self.dropout, "attention": self.hidden}
        if self.encoder == "cnn":
            return HuraOptions(**common, window=self.window)
        if self.encoder == "attention":
            return HsaOptions(**common)
        if self.encoder == "gru":
            return HanOptions(**common)
        if self.encoder == "transformer":
            return Bert4RecOptions(**common, layers=self.layers, heads=self.heads, feedforward=4)
        return None

    def check(self, dim: int) -> None:
        """Refuses widths that the encoder cannot have.

        Raises:
          ValueError: the width does not fit, in a sentence.
        """
        if self.words is not None:
            try:
                self.words.check(self.width or dim)
            except ValueError as error:
                raise ValueError(f"text encoder {self.encoder}: {error}") from None
