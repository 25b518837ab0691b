"""Half precision and compiled kernels, put around a model from outside: the model stays plain.

In bf16 the encoder's matrix products run in half precision and its states come out in float32.
Weights, norms, projectors, batch statistics and losses stay in float32, and no loss is scaled, for
bf16 reaches as far as float32. Names in the state dict do not change.
"""

import functools
from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from contracts.base.errors import FootpathError
from models.nn.encoders.base import UserEncoder


def in_bf16(module: nn.Module) -> None:
    """Lets all user encoders below a module, a teacher's too, work in bf16."""
    device = next(module.parameters()).device.type
    for part in module.modules():
        if isinstance(part, UserEncoder):
            part.forward = _autocast(part.forward, device)  # type: ignore[method-assign]
            part.states = _autocast(part.states, device)  # type: ignore[method-assign]
            part.states_at = _autocast(part.states_at, device)  # type: ignore[method-assign]


def compiled(module: nn.Module) -> None:
    """Compiles what depends on a batch by its length alone: projectors, and blocks but attention.

    A block that can be compiled has `project`, before attention, and `finish`, after it. Attention
    stays as it is: its rectangles change in number and shape with every batch.
    """
    for part in module.modules():
        if type(part) is nn.Sequential:
            part.compile(dynamic=True)
        for name in ("project", "finish"):
            if isinstance(method := getattr(part, name, None), MethodType):
                setattr(part, name, torch.compile(method, dynamic=True))


def compile_fault(error: Exception) -> FootpathError | None:
    """The sentence for an error of the compiler, None for another error."""
    if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return None
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return FootpathError(f"the model cannot be compiled here ({first}): set compile to false")


def _autocast(method: Callable[..., Tensor], device: str) -> Callable[..., Tensor]:
    @functools.wraps(method)
    def run(*args: Any, **kwargs: Any) -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            states = method(*args, **kwargs)
        return states.float()

    return run
