"""The optimizer, its schedule and one guarded step, shared by pre-training and fine-tuning."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from contracts.base.errors import FootpathError
from models.runtime.distributed import average_gradients
from models.training.lazy_adam import LazyAdamW


def make_optimizer(
    model: nn.Module, lr: float, weight_decay: float, item_lr_factor: float = 1.0
) -> LazyAdamW:
    """AdamW (fused): item tables learn faster, by row where the model says so, and never decay.

    Of the rest, only matrices of layers decay.
    """
    items, matrices, vectors = [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:  # a teacher's
            continue
        if name.endswith("tables.item"):
            items.append(parameter)
        else:
            is_matrix = parameter.ndim > 1 and ".tables." not in name
            (matrices if is_matrix else vectors).append(parameter)
    by_row = any(getattr(part, "is_lazy", False) for part in model.modules())
    groups = [
        {"params": items, "weight_decay": 0.0, "factor": item_lr_factor, "by_row": by_row},
        {"params": matrices, "weight_decay": weight_decay, "factor": 1.0},
        {"params": vectors, "weight_decay": 0.0, "factor": 1.0},
    ]
    return LazyAdamW([g for g in groups if g["params"]], lr=lr, fused=True)


def set_lr(optimizer: LazyAdamW, lr: float) -> None:
    """Sets the learning rate of every group, times the group's factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("factor", 1.0)


def schedule(progress: float, warmup: float) -> float:
    """The share of the peak learning rate: linear warm-up, then cosine to zero."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / max(1e-9, 1 - warmup))))


def guarded_step(
    optimizer: LazyAdamW,
    parameters: Iterable[Tensor],
    loss: Tensor,
    clip: float,
    before: Callable[[], None] | None = None,
) -> float:
    """Backward, mean over ranks, clip, step. Weights stay when something is not finite.

    Args:
      optimizer: of the parameters.
      parameters: those that are clipped together.
      loss: of the step.
      clip: the largest norm of the gradient; 0: none.
      before: is called just before the weights change.

    Returns:
      The gradient norm before clipping.

    Raises:
      FootpathError: the loss or the gradient is not finite.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    trained = list(parameters)
    average_gradients(trained)
    holders = [_of_rows(p) if _is_sparse(p) else p for p in trained]
    norm = float(nn.utils.clip_grad_norm_(holders, clip or math.inf))
    value = float(loss.detach())
    if not math.isfinite(norm) or not math.isfinite(value):
        raise FootpathError(
            f"training diverged: loss {value}, gradient norm {norm}: "
            f"lower the learning rate (lr), or look for extreme values in the data"
        )
    if before:
        before()
    optimizer.step()
    return norm


def _is_sparse(parameter: Tensor) -> bool:
    return parameter.grad is not None and parameter.grad.is_sparse


def _of_rows(table: Tensor) -> Tensor:
    """What has the rows of a table's sparse gradient for its gradient; they share memory."""
    assert table.grad is not None
    table.grad = table.grad.coalesce()
    rows = table.grad.values()
    holder = torch.empty_like(rows)
    holder.grad = rows
    return holder
