"""Attention over packed events by one kernel of the GPU, where there is one: no rectangles.

`torch.nn.attention.varlen` runs FlashAttention on sequences laid end to end, in half precision, on
NVIDIA GPUs from Ampere on. Elsewhere, and in a torch without it, attention runs on buckets.

Shapes: T events, B sequences, H heads of width E.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

AMPERE = (8, 0)
WIDTHS = range(8, 257, 8)  # of a head, that FlashAttention takes


def runs_packed(qkv: Tensor, heads: int) -> bool:
    """Whether `packed_attention` can take queries, keys and values [T, 3D] here."""
    return (
        qkv.is_cuda
        and qkv.dtype in (torch.bfloat16, torch.float16)
        and qkv.shape[1] // 3 // heads in WIDTHS
        and torch.cuda.get_device_capability(qkv.device) >= AMPERE
        and _kernel() is not None
    )


def packed_attention(
    q_THE: Tensor,
    k_THE: Tensor,
    v_THE: Tensor,
    lengths_B: Tensor,
    longest: int,
    causal: bool = False,
    asking_B: Tensor | None = None,
) -> Tensor:
    """Mixes the values of each sequence -> [T, H, E], or as many rows as there are queries.

    Args:
      q_THE: queries; events of a sequence lie side by side.
      k_THE: keys.
      v_THE: values.
      lengths_B: events of each sequence, in their order, on the same device.
      longest: the largest of them.
      causal: no event sees a later one.
      asking_B: queries of each sequence, where not all of its events ask.
    """
    kernel, bounds = _kernel(), bounds_of(lengths_B)
    asking = bounds if asking_B is None else bounds_of(asking_B)
    assert kernel is not None
    window = (-1, 0) if causal else (-1, -1)
    return kernel(q_THE, k_THE, v_THE, asking, bounds, longest, longest, window_size=window)


def bounds_of(lengths_B: Tensor) -> Tensor:
    """Where each sequence begins, and where the last one ends: int32 [B + 1]."""
    return F.pad(lengths_B.cumsum(0), (1, 0)).to(torch.int32)


@functools.cache
def _kernel() -> Callable[..., Any] | None:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    # Before torch 2.11 it was told `is_causal`; that one is not used.
    return varlen_attn if "window_size" in inspect.signature(varlen_attn).parameters else None
