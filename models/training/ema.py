"""An exponential moving average of weights, often a better model than the last step's.

torch's AveragedModel gives the same bits, but it also copies a model's buffers at every step, the
texts of all items among them: twice the time where there are ten million tokens.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Ema:
    """Follows a model; the decay starts low, so that the first weights are soon forgotten."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def follow(self, model: nn.Module, step: int) -> None:
        """Moves towards the model, after step `step` (counted from 1)."""
        decay = min(self.decay, step / (step + 9))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Goes on from averages that were saved."""
        for name, value in weights.items():
            self.weights[name].copy_(value)

    @contextlib.contextmanager
    def within(self, model: nn.Module) -> Iterator[None]:
        """Lets the model have the averaged weights for a while."""
        own = {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.weights)
        try:
            yield
        finally:
            model.load_state_dict(own)
