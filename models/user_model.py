"""The model that is pre-trained, kept and fine-tuned: packed events in, user vectors out."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from contracts.errors import FootpathError
from models.behaviour import BehaviourEncoder, BehaviourShape
from models.config import FIELDS, parse, plain
from models.encoders import ENCODERS
from models.packed import Packed


@dataclass(frozen=True)
class ModelConfig:
    """Everything that the shape of a model follows from; a checkpoint keeps it."""

    encoder: str
    dim: int
    max_length: int
    fields: tuple[str, ...]
    encoder_options: dict[str, Any]
    sizes: dict[str, int]  # vocabulary lengths


class UserModel(nn.Module):
    """A behaviour encoder under a user encoder."""

    def __init__(self, config: ModelConfig, behaviour: BehaviourEncoder, encoder: nn.Module):
        super().__init__()
        self.config = config
        self.behaviour = behaviour
        self.encoder = encoder

    def forward(self, events: Packed) -> Tensor:
        """Encodes B sequences -> user vectors [B, D]."""
        return self.encoder(self.behaviour(events), events)


def build_model(config: ModelConfig) -> UserModel:
    """Builds a model with fresh weights, drawn from torch's global generator.

    Raises:
      FootpathError: the encoder or a field or option is unknown, or sizes do not fit.
    """
    if config.encoder not in ENCODERS:
        raise FootpathError(
            f"there is no encoder '{config.encoder}': the known ones are {', '.join(ENCODERS)}"
        )
    unknown = set(config.fields) - set(FIELDS)
    if unknown or "item" not in config.fields:
        raise FootpathError(
            f"fields {list(config.fields)}: expected 'item' and any of {', '.join(FIELDS[1:])}"
        )
    kind = ENCODERS[config.encoder]
    options = parse(
        kind.options_class, config.encoder_options, f"encoder_options of {config.encoder}"
    )
    shape = BehaviourShape(config.dim, config.max_length, config.fields, config.sizes)
    try:
        encoder = kind(config.dim, options)
    except ValueError as error:
        raise FootpathError(f"encoder {config.encoder}: {error}") from None
    resolved = ModelConfig(**{**config.__dict__, "encoder_options": plain(options)})
    return UserModel(resolved, BehaviourEncoder(shape), encoder)
