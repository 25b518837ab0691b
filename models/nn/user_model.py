"""The model that is pre-trained, kept and fine-tuned: packed events in, user vectors out."""

from dataclasses import dataclass

from torch import Tensor, nn

from contracts.base.errors import FootpathError
from contracts.recipes.encoders import EncoderOptions
from contracts.recipes.recipe import Recipe
from contracts.recipes.text import TextOptions
from models.data.packed import SPECIAL, Packed
from models.nn.behavior import BehaviorEncoder
from models.nn.encoders import ENCODERS


@dataclass(frozen=True)
class ModelConfig:
    """Everything that the shape of a model follows from."""

    encoder: EncoderOptions
    dim: int
    max_length: int
    fields: tuple[str, ...]
    text: TextOptions | None  # with the field `text`
    sizes: dict[str, int]  # vocabulary lengths

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
        return cls(*shape, sizes=sizes)


class UserModel(nn.Module):
    """A behavior encoder under a user encoder."""

    def __init__(self, config: ModelConfig, behavior: BehaviorEncoder, encoder: nn.Module):
        super().__init__()
        self.config = config
        self.behavior = behavior
        self.encoder = encoder

    def forward(self, events: Packed) -> Tensor:
        """Encodes B sequences -> user vectors [B, D]."""
        return self.encoder(self.behavior(events), events)


def build_model(config: ModelConfig) -> UserModel:
    """Model with fresh weights, drawn from torch's global generator."""
    encoder = ENCODERS[config.encoder.name](config.dim, config.encoder)
    behavior = BehaviorEncoder(
        config.dim, config.max_length, config.fields, config.sizes, config.text
    )
    return UserModel(config, behavior, encoder)
