"""The loop that trains task models and ranking heads: few labels, many epochs, stopped early."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models.data import epoch_batches
from models.draw import key_of
from models.optim import guarded_step, make_optimizer, schedule, set_lr

WARMUP = 0.1


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
    """Trains a model in place, and leaves it at its best epoch by validation loss.

    Args:
      model: what is trained.
      count: how many training examples there are.
      loss_of: the loss of chosen examples in an epoch.
      valid_loss: the loss of the validation examples, as the model is now.
      settings: how to train.

    Returns:
      The best epoch; 0 where the model as given was best.
    """
    optimizer = make_optimizer(model, settings.lr, settings.weight_decay)
    best_loss, best_epoch = valid_loss(), 0
    best_state = copy.deepcopy(model.state_dict())
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
    model.load_state_dict(best_state)
    model.eval()
    return best_epoch
