"""Options of user encoders: a new one is a file beside these and a line in ENCODERS."""

from contracts.recipes.encoders.bag import BagOptions
from contracts.recipes.encoders.base import EncoderOptions
from contracts.recipes.encoders.gru4rec import Gru4RecOptions
from contracts.recipes.encoders.hstu import HstuOptions
from contracts.recipes.encoders.ptum_encoders import (
    HanOptions,
    HsaOptions,
    HuraOptions,
    NativeCtrOptions,
)
from contracts.recipes.encoders.transformers import Bert4RecOptions, RotaryOptions

ENCODERS: dict[str, type[EncoderOptions]] = {
    "bag": BagOptions,
    "bert4rec": Bert4RecOptions,
    "gru4rec": Gru4RecOptions,
    "han": HanOptions,
    "hsa": HsaOptions,
    "hstu": HstuOptions,
    "hura": HuraOptions,
    "nativectr": NativeCtrOptions,
    "rotary": RotaryOptions,
}
