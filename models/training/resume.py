"""What a training run that was killed goes on from: one file of tensors, replaced in one step.

Batches and random numbers follow from (seed, epoch, user), dropout from (seed, step), so the state
is weights, optimizer, curves and, where they are asked for, averaged and best weights.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from contracts.base.errors import FootpathError
from models.checkpoint import optimizer_tensors, read_tensors, restore_optimizer, write_tensors
from models.training.history import CURVES, History

SAVING = 0.05  # share of the time that writing states may take


def pause_after(took: float, asked: float) -> float:
    """Seconds of training until the next state, when one took so long to write.

    At least those asked for, and more where writing would take more than its share of the time;
    where none are asked for, a state is written after each step.
    """
    return max(asked, took * (1 - SAVING) / SAVING) if asked else 0.0


def save_state(
    path: Path,
    identity: str,
    history: History,
    trained: nn.Module,
    optimizer: torch.optim.Optimizer,
    kept: dict[str, dict[str, Tensor]],
) -> None:
    """Writes the state as of the last step; `kept` holds further weights by what they are."""
    facts = {"step": history.step, "seconds": history.seconds, "events": history.events}
    tensors = _named("trained", trained.state_dict()) | optimizer_tensors(optimizer)
    tensors |= _named("history", {name: getattr(history, name) for name in CURVES})
    for what, weights in kept.items():
        tensors |= _named(what, weights)
    write_tensors(path, tensors, {"facts": json.dumps(facts), "identity": identity})


def restore_state(
    path: Path, identity: str, trained: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[History, dict[str, dict[str, Tensor]]]:
    """Fills model and optimizer from a state, and returns the history and the kept weights.

    Raises:
      FootpathError: the file is damaged, or belongs to another run.
    """
    tensors, texts = read_tensors(path)
    if texts.get("identity") != identity:
        raise FootpathError(
            f"{path} belongs to another configuration or other data: "
            f"choose another version, or remove {path.parent} to start again"
        )
    parts: dict[str, dict[str, Tensor]] = {"trained": {}, "history": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        what, _, rest = name.partition(".")
        parts.setdefault(what, {})[rest] = tensor
    trained.load_state_dict(parts.pop("trained"))
    restore_optimizer(optimizer, tensors)
    curves, _ = parts.pop("history"), parts.pop("optimizer")
    facts: dict[str, Any] = json.loads(texts["facts"])
    return History(**facts, **curves), parts


def _named(what: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{what}.{name}": tensor for name, tensor in tensors.items()}
