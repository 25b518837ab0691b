"""Layers that torch has too, where its own are slow on a CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Module):
    """Dropout that draws one random byte a value: on a CPU, drawing is what dropout costs.

    The rate is rounded to a multiple of 1/256 below 1, and the scale goes with the rounded rate.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate, self.level = rate, min(255, round(rate * 256))

    def forward(self, x: Tensor) -> Tensor:
        """Zeroes values at random while training."""
        if x.is_cuda or torch.compiler.is_compiling():  # the compiler fuses torch's own
            return F.dropout(x, self.rate, self.training)
        if not self.training or self.level == 0:
            return x
        return _ByteDropout.apply(x, self.level)  # type: ignore[return-value]


def dropout_bytes(x: Tensor) -> Tensor:
    """Draws a random byte for each value of x, from torch's global generator."""
    words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.uint8)[: x.numel()].view(x.shape)


def dropout_scale(drawn: Tensor, level: int, dtype: torch.dtype) -> Tensor:
    """Turns random bytes into 0, with a chance of level/256, or else 256 / (256 - level).

    Compares after the conversion, not before: torch compares bytes one by one.
    """
    return drawn.to(dtype).ge_(level).mul_(256 / (256 - level))


class _ByteDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, level: int) -> Tensor:
        drawn = dropout_bytes(x)
        ctx.save_for_backward(drawn)
        ctx.level = level
        return x * dropout_scale(drawn, level, x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        drawn = ctx.saved_tensors[0]
        return grads[0] * dropout_scale(drawn, ctx.level, grads[0].dtype), None
