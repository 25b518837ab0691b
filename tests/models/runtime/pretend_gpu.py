"""A GPU that is not there: tensors on a device of its own, whose values lie on the CPU.

Within `pretend_gpu()` the name `pretend` is a device that every program may be told. What is made
there or moved there is a `There`, a tensor that says `is_cuda` and refuses what a GPU refuses: an
operation on some tensors that are there and some that are not. As on a GPU, a number (a tensor
without dimensions) may join in where operations go element by element, indices on the CPU may pick
from what is there, and `numpy()` is for what has come back. Gradients flow as on any device.

Built on torch's support of devices written in Python, which is one of a process and stays in it.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
NAME = "pretend"
PICKS = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)
NETWORKS = ("gru", "lstm")  # a GPU has kernels of its own for these


class WrongDeviceError(RuntimeError):
    """A GPU would refuse this operation, for some of its tensors are on the CPU."""


class There(Tensor):
    """A tensor on the GPU that is not there; `here` holds its values."""

    is_cuda = True
    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "There":
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset()}
        made = Tensor._make_wrapper_subclass(
            cls, here.shape, dtype=here.dtype, device=f"{NAME}:0", **layout
        )
        made.here = here
        return made

    def __init__(self, here: Tensor) -> None:
        """All is done by `__new__`."""

    def __repr__(self) -> str:
        return f"There({self.here!r})"

    @classmethod
    def __torch_function__(cls, call, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            if call is scaled_dot_product_attention:
                return _attention(*args, **(kwargs or {}))
            if call is Tensor.tolist:
                return args[0].cpu().tolist()
            if call in (Tensor.__getitem__, Tensor.__setitem__):
                args = (args[0], _index(args[1]), *args[2:])
            if getattr(call, "__name__", "") in NETWORKS:
                given = _tensors(args)
                return _Whole.apply(functools.partial(_put, call, args), *given)
            return call(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, call, types, args=(), kwargs=None):
        return _run(call, args, kwargs or {})


class _Anywhere(TorchDispatchMode):
    """Sees what makes tensors, too."""

    def __torch_dispatch__(self, call, types, args=(), kwargs=None):
        return _run(call, args, kwargs or {})


@contextlib.contextmanager
def pretend_gpu() -> Iterator[torch.device]:
    """Lets tensors be on the device `pretend` for a while."""
    _register()
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        with _Anywhere():
            yield torch.device(f"{NAME}:0")
    finally:
        torch.use_deterministic_algorithms(was_deterministic)


@functools.cache
def _register() -> list[torch.library.Library]:
    class Module(backend_registration._DummyBackendModule):
        def get_amp_supported_dtype(self) -> list[torch.dtype]:
            return [torch.bfloat16]

    backend_registration._setup_privateuseone_for_python_backend(NAME, Module())
    # Under autocast layers work in half precision, and all else as it comes.
    key = "AutocastPrivateUse1"
    everything, layers = (torch.library.Library(name, "IMPL", key) for name in ("_", "aten"))
    everything.fallback(torch.library.fallthrough_kernel)
    layers.impl("linear", _half_linear)
    return [everything, layers]


def _half_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
    with torch._C._ExcludeDispatchKeyGuard(key):
        halves = [None if part is None else part.bfloat16() for part in (x, weight, bias)]
        return linear(*halves)


def _run(call: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Runs an operation on the values, and says where what comes out of it is."""
    given = _tensors((args, tuple(kwargs.values())))
    asked = kwargs.get("device")
    is_there = any(isinstance(part, There) for part in given)
    goes_there = is_there if asked is None else asked.type == NAME
    if not is_there and not goes_there:
        return call(*args, **kwargs)
    if call.overloadpacket not in (aten._to_copy, aten.copy_):
        _refuse_mixtures(call, args, given)
    if goes_there and asked is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    out = call(*_each(_here, args), **{name: _each(_here, part) for name, part in kwargs.items()})
    if not goes_there:
        return out
    known = {id(part.here): part for part in given if isinstance(part, There)}

    return _each(lambda part: known[id(part)] if id(part) in known else There(part), out)


def _refuse_mixtures(call: Any, args: tuple, given: list[Tensor]) -> None:
    if call.overloadpacket in PICKS and isinstance(args[0], There):
        given = [part for part in (args[0], *args[2:]) if isinstance(part, Tensor)]
    left = [part for part in given if not isinstance(part, There)]
    takes_numbers = torch.Tag.pointwise in call.tags or call.overloadpacket in PICKS
    if takes_numbers:
        left = [part for part in left if part.dim()]
    if left and len(left) < len(given):
        raise WrongDeviceError(f"{call}: on the CPU is {[tuple(part.shape) for part in left]}")


def _attention(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
) -> Tensor:
    """Does what a GPU has kernels for, step by step."""
    if attn_mask is not None:
        attn_mask = torch.zeros_like(attn_mask, dtype=q.dtype).masked_fill(~attn_mask, -torch.inf)
    return aten._scaled_dot_product_attention_math(q, k, v, attn_mask, 0.0, is_causal)[0]


def _index(part: Any) -> Any:
    """Takes lists and arrays there, as torch does with what a tensor of a GPU is indexed by."""
    if isinstance(part, tuple):
        return tuple(map(_index, part))
    return There(torch.as_tensor(part)) if isinstance(part, list | np.ndarray) else part


def _here(part: Any) -> Any:
    return part.here if isinstance(part, There) else part


def _put(call: Callable[..., Any], args: tuple, given: tuple[Tensor, ...]) -> Any:
    """Calls with other tensors in the places of those in the arguments."""
    rest = iter(given)
    return call(*_each(lambda _: next(rest), args))


def _each(change: Callable[[Tensor], Any], value: Any) -> Any:
    """Changes every tensor of (nested) lists and tuples."""
    if isinstance(value, Tensor):
        return change(value)
    return (
        type(value)(_each(change, v) for v in value) if isinstance(value, list | tuple) else value
    )


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _each(found.append, value)
    return found


class _Whole(torch.autograd.Function):
    """An operation with a kernel of its own on a GPU, run on the values as one."""

    @staticmethod
    def forward(ctx, call, *given):
        if not all(isinstance(part, There) for part in given):
            raise WrongDeviceError(f"{call}: some of its tensors are on the CPU")
        ctx.given = [part.here.detach().requires_grad_() for part in given]
        with torch.enable_grad():
            ctx.out = call(ctx.given)
        return tuple(There(part.detach()) for part in ctx.out)

    @staticmethod
    def backward(ctx, *grads):
        pairs = [(o, g.here) for o, g in zip(ctx.out, grads, strict=True) if g is not None]
        outs, grads = zip(*pairs, strict=True)
        found = torch.autograd.grad(outs, ctx.given, grads, allow_unused=True)
        return (None, *(part if part is None else There(part) for part in found))
