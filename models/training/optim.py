"""The optimizer, its schedule and one guarded step, shared by pre-training and fine-tuning."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from contracts.base.errors import FootpathError
from models.runtime.distributed import average_gradients


def make_optimizer(
    model: nn.Module, lr: float, weight_decay: float, item_lr_factor: float = 1.0
) -> torch.optim.AdamW:
    """AdamW (fused): item tables learn faster, and only matrices of layers decay."""
    items, matrices, vectors = [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:  # a teacher's
            continue
        if name.endswith("tables.item"):
            items.append(parameter)
        else:
            is_matrix = parameter.ndim > 1 and ".tables." not in name
            (matrices if is_matrix else vectors).append(parameter)
    groups = [
        {"params": items, "weight_decay": 0.0, "factor": item_lr_factor},
        {"params": matrices, "weight_decay": weight_decay, "factor": 1.0},
        {"params": vectors, "weight_decay": 0.0, "factor": 1.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of every group, times the group's factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("factor", 1.0)


def schedule(progress: float, warmup: float) -> float:
    """The share of the peak learning rate: linear warm-up, then cosine to zero."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / max(1e-9, 1 - warmup))))


def guarded_step(
    optimizer: torch.optim.Optimizer, parameters: Iterable[Tensor], loss: Tensor, clip: float
) -> float:
    """Backward, mean over ranks, clip, step. Weights stay when something is not finite.

    Returns:
      The gradient norm before clipping.

    Raises:
      FootpathError: the loss or the gradient is not finite.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    trained = list(parameters)
    average_gradients(trained)
    norm = float(nn.utils.clip_grad_norm_(trained, clip or math.inf))
    value = float(loss.detach())
    if not math.isfinite(norm) or not math.isfinite(value):
        raise FootpathError(
            f"training diverged: loss {value}, gradient norm {norm}: "
            f"lower the learning rate (lr), or look for extreme values in the data"
        )
    optimizer.step()
    return norm
