"""The loop that trains task models and ranking heads: few labels, many epochs, stopped early.

What is kept is what validates best: the model as given, one of its epochs, or weights between those
that were given and the last (Wortsman et al., Robust fine-tuning of zero-shot models, 2022). With
few labels these are often better than both ends: a part of the step is right, the rest is noise.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models.data.batching import epoch_batches
from models.data.rng import key_of
from models.training.optim import guarded_step, make_optimizer, schedule, set_lr

WARMUP = 0.1
BETWEEN = (0.25, 0.5, 0.75)  # shares of the way from the weights as given to the last


@dataclass(frozen=True)
class TuneSettings:
    """How a task model is trained."""

    lr: float  # peak
    epochs: int
    patience: int  # epochs without a better validation loss
    batch_size: int
    weight_decay: float
    seed: int  # of the order, the windows and dropout


def tune(
    model: nn.Module,
    count: int,
    loss_of: Callable[[np.ndarray, int], Tensor],
    valid_loss: Callable[[], float],
    settings: TuneSettings,
) -> int:
    """Trains a model in place, and leaves it with the weights of the best validation loss.

    Args:
      model: what is trained.
      count: how many training examples there are.
      loss_of: the loss of chosen examples in an epoch.
      valid_loss: the loss of the validation examples, as the model is now.
      settings: how to train.

    Returns:
      The best epoch; 0 where the model as given was best, the last where weights on the way are.
    """
    optimizer = make_optimizer(model, settings.lr, settings.weight_decay)
    best_loss, best_epoch = valid_loss(), 0
    given = best_state = copy.deepcopy(model.state_dict())
    epoch = 0
    for epoch in range(1, settings.epochs + 1):
        batches = epoch_batches(np.arange(count), settings.batch_size, settings.seed, epoch)
        model.train()
        for nth, chosen in enumerate(batches):
            progress = (epoch - 1 + nth / len(batches)) / settings.epochs
            set_lr(optimizer, settings.lr * schedule(progress, WARMUP))
            torch.manual_seed(key_of(settings.seed, epoch, nth) >> 1)
            guarded_step(optimizer, model.parameters(), loss_of(chosen, epoch), clip=1.0)
        model.eval()
        loss = valid_loss()
        if loss < best_loss:
            best_loss, best_epoch = loss, epoch
            best_state = copy.deepcopy(model.state_dict())
        elif epoch - best_epoch >= settings.patience:
            break
    last = copy.deepcopy(model.state_dict())
    for share in BETWEEN if epoch else ():
        model.load_state_dict(_between(given, last, share))
        loss = valid_loss()
        if loss < best_loss:
            best_loss, best_epoch = loss, epoch
            best_state = copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    model.eval()
    return best_epoch


def _between(given: dict[str, Tensor], last: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    return {
        name: torch.lerp(given[name], value, share) if value.is_floating_point() else value
        for name, value in last.items()
    }
