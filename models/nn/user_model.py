"""The model that is pre-trained, kept and fine-tuned: packed events in, user vectors out."""

import dataclasses
from dataclasses import dataclass

from torch import Tensor, nn

from contracts.base.errors import FootpathError
from contracts.recipes.encoders import EncoderOptions
from contracts.recipes.recipe import Recipe
from contracts.recipes.text import TextOptions
from models.data.packed import SPECIAL, Packed
from models.data.sequences import Sequences
from models.data.summary import Columns
from models.nn.behavior import BehaviorEncoder
from models.nn.encoders import ENCODERS
from models.nn.encoders.base import UserEncoder
from models.nn.summary import SummaryReader


@dataclass(frozen=True)
class ModelConfig:
    """Everything that the shape of a model follows from."""

    encoder: EncoderOptions
    dim: int
    max_length: int
    fields: tuple[str, ...]
    text: TextOptions | None  # with the field `text`
    summary: bool  # whether the vector is of a summary of the whole history too
    sizes: dict[str, int]  # vocabulary lengths
    sampled: int = 0  # items that stand for all in a softmax, beside those needed; 0: all do
    is_lazy: bool = False  # the rows of the item table that a step does not meet are left alone

    @classmethod
    def of(cls, recipe: Recipe, sizes: dict[str, int]) -> "ModelConfig":
        """Shape of a recipe's model over vocabularies of these lengths.

        Raises:
          FootpathError: the recipe reads text, and no word is known.
        """
        if recipe.text and sizes.get("token", 0) <= len(SPECIAL):
            raise FootpathError(
                "fields name 'text', and the vocabulary has no words: rebuild training_sequences "
                "of a data set that has a catalog or learning.query, or leave 'text' out of fields"
            )
        shape = (recipe.encoder, recipe.dim, recipe.max_length, recipe.fields, recipe.text)
        items = sizes["item"]
        cost = {"sampled": recipe.sampled_of(items), "is_lazy": recipe.is_lazy_of(items)}
        return cls(*shape, summary=bool(recipe.summary), sizes=sizes, **cost)

    def reading(self, sequences: Sequences) -> Sequences:
        """The same sequences, whose windows hold what the model reads."""
        is_timed = "age" in self.fields or self.encoder.reads_now
        return dataclasses.replace(sequences, has_clock=is_timed, has_summary=self.summary)


class UserModel(nn.Module):
    """A behavior encoder under a user encoder, and what reads a summary, where there is one."""

    def __init__(self, config: ModelConfig, behavior: BehaviorEncoder, encoder: UserEncoder):
        super().__init__()
        self.config = config
        self.behavior = behavior
        self.encoder = encoder
        self.summary = None
        if config.summary:
            columns = Columns.of(config.sizes).width
            self.summary = SummaryReader(config.dim, columns, config.encoder.dropout)

    def forward(self, events: Packed) -> Tensor:
        """Encodes B sequences -> user vectors [B, D].

        Raises:
          ValueError: a summary is read, and the events were read without one.
        """
        return self._joined(self.encoder(self.behavior(events), events), events.summary_BF)

    def beginnings(self, events: Packed, at_N: Tensor, summary_NF: Tensor | None) -> Tensor:
        """Encodes sequences up to, and with, N of their events -> user vectors [N, D]."""
        vectors_ND = self.encoder.beginnings(self.behavior(events), events, at_N)
        return self._joined(vectors_ND, summary_NF)

    def _joined(self, vectors_BD: Tensor, summary_BF: Tensor | None) -> Tensor:
        if self.summary is None:
            return vectors_BD
        if summary_BF is None:
            raise ValueError("the model reads a summary: read the events as config.reading() does")
        return self.summary(vectors_BD, summary_BF)


def build_model(config: ModelConfig) -> UserModel:
    """Model with fresh weights, drawn from torch's global generator."""
    encoder = ENCODERS[config.encoder.name](config.dim, config.encoder)
    behavior = BehaviorEncoder(
        config.dim,
        config.max_length,
        config.fields,
        config.sizes,
        config.text,
        config.sampled,
        config.is_lazy,
    )
    return UserModel(config, behavior, encoder)
