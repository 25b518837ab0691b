"""Options of the encoders that PTUM was published with: HAN, HSA, HURA, NativeCTR."""

from typing import Literal

from contracts.base.schema import BelowOne, Count, Whole
from contracts.recipes.encoders.base import EncoderOptions, Pooling, check_heads

HEAD_WIDTH = 16  # of HSA's, where their number is left open


class _PtumEncoder(EncoderOptions):
    dropout: BelowOne = 0.2
    pooling: Pooling = "attention"


class HanOptions(_PtumEncoder):
    """The cells."""

    name: Literal["han"] = "han"
    cell: Literal["gru", "lstm"] = "gru"

    def check(self, dim: int) -> None:
        """Both directions are equally wide."""
        if dim % 2:
            raise ValueError(f"dim {dim} does not divide among two directions")


class HsaOptions(_PtumEncoder):
    """How many heads."""

    name: Literal["hsa"] = "hsa"
    heads: Whole = 0  # 0: as many of width 16 as dim has room for

    def heads_of(self, dim: int) -> int:
        """Number of heads at a width."""
        return self.heads or max(1, dim // HEAD_WIDTH)

    def check(self, dim: int) -> None:
        """Every head is equally wide."""
        check_heads(dim, self.heads_of(dim))


class HuraOptions(_PtumEncoder):
    """The window of the CNN."""

    name: Literal["hura"] = "hura"
    window: Count = 3  # events that the CNN sees at a time


class NativeCtrOptions(HuraOptions):
    """As HURA's, and each behavior by itself."""

    name: Literal["nativectr"] = "nativectr"  # type: ignore[assignment]
    window: Count = 1
