"""The model that is pre-trained, kept and fine-tuned: packed events in, user vectors out."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from contracts.base.errors import FootpathError
from models.data.packed import SPECIAL, Packed
from models.nn.behavior import BehaviorEncoder, BehaviorShape
from models.nn.encoders import ENCODERS
from models.nn.text import Options as TextOptions
from models.runtime.config import KNOWN_FIELDS, parse, plain


@dataclass(frozen=True)
class ModelConfig:
    """Everything that the shape of a model follows from; a checkpoint keeps it."""

    encoder: str
    dim: int
    max_length: int
    fields: tuple[str, ...]
    encoder_options: dict[str, Any]
    sizes: dict[str, int]  # vocabulary lengths
    text: dict[str, Any] = field(default_factory=dict)  # options of models.nn.text, with that field


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
    """Builds a model with fresh weights, drawn from torch's global generator.

    Raises:
      FootpathError: the encoder or a field or option is unknown, or sizes do not fit.
    """
    if config.encoder not in ENCODERS:
        raise FootpathError(
            f"there is no encoder '{config.encoder}': the known ones are {', '.join(ENCODERS)}"
        )
    _check_fields(config)
    kind = ENCODERS[config.encoder]
    options = parse(
        kind.options_class, config.encoder_options, f"encoder_options of {config.encoder}"
    )
    reads = parse(TextOptions, config.text, "text")
    shape = BehaviorShape(config.dim, config.max_length, config.fields, config.sizes, reads)
    try:
        encoder = kind(config.dim, options)
    except ValueError as error:
        raise FootpathError(f"encoder {config.encoder}: {error}") from None
    try:
        behavior = BehaviorEncoder(shape)
    except ValueError as error:
        raise FootpathError(f"text encoder {reads.encoder}: {error}") from None
    told = {"encoder_options": plain(options), "text": plain(reads) if behavior.text else {}}
    return UserModel(dataclasses.replace(config, **told), behavior, encoder)


def _check_fields(config: ModelConfig) -> None:
    fields = config.fields
    if unknown := set(fields) - {*KNOWN_FIELDS}:
        raise FootpathError(
            f"fields {list(fields)}: there is no {', '.join(sorted(unknown))}; "
            f"known are {', '.join(KNOWN_FIELDS)}"
        )
    if not {"item", "text"} & set(fields):
        raise FootpathError(f"fields {list(fields)}: expected 'item', 'text' or both among them")
    if "text" in fields and config.sizes.get("token", 0) <= len(SPECIAL):
        raise FootpathError(
            "fields name 'text', and the vocabulary has no words: rebuild training_sequences of a "
            "data set that has a catalog or learning.query, or leave 'text' out of fields"
        )
    if config.text and "text" not in fields:
        raise FootpathError("there are options of text, and fields leave 'text' out: add it there")
