"""A task model: user model, standardiser and linear head, trained together.

It starts as the frozen probe it is compared with, so what fine-tuning adds is seen, and training
stops where the validation loss does: a model that fine-tuning does not help stays the probe.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models.data import Sequences, epoch_batches
from models.draw import Draw, key_of
from models.examples import Labelled, random_windows
from models.optim import guarded_step, make_optimizer, schedule, set_lr
from models.packed import Packed, pack, to_device
from models.probe import Linear, Standardizer, task_loss
from models.user_model import UserModel
from models.vectors import user_vectors

WARMUP = 0.1


class TaskModel(nn.Module):
    """Packed events, and features [B, F] if any -> scores [B, C]: class logits, or a number."""

    mean_D: Tensor
    scale_D: Tensor

    def __init__(self, user_model: UserModel, standardizer: Standardizer, head: Linear) -> None:
        super().__init__()
        self.user_model = user_model
        self.register_buffer("mean_D", standardizer.mean_D.clone())
        self.register_buffer("scale_D", standardizer.scale_D.clone())
        classes, dim = head.weight_CD.shape
        self.head = nn.Linear(dim, classes)
        with torch.no_grad():
            self.head.weight.copy_(head.weight_CD)
            self.head.bias.copy_(head.bias_C)

    def forward(self, events: Packed, features_BF: Tensor | None = None) -> Tensor:
        """Scores B windows."""
        return self.score(self.user_model(events), features_BF)

    def score(self, users_BD: Tensor, features_BF: Tensor | None = None) -> Tensor:
        """Scores user vectors; the features are standardised already."""
        x_BD = (users_BD - self.mean_D) / self.scale_D
        if features_BF is not None:
            x_BD = torch.cat([x_BD, features_BF.to(x_BD.device)], dim=1)
        return self.head(x_BD)


@dataclass(frozen=True)
class TuneSettings:
    """How a task model is trained."""

    lr: float  # peak
    epochs: int
    patience: int  # epochs without a better validation loss
    batch_size: int
    weight_decay: float
    seed: int  # of the order, the windows and dropout


@torch.no_grad()
def scores_of(
    model: TaskModel,
    sequences: Sequences,
    examples: Labelled,
    features_nF: Tensor | None = None,
) -> Tensor:
    """Scores all that is seen of n examples -> [n, C] on the CPU."""
    vectors = user_vectors(
        model.user_model, sequences, examples.users_n, examples.ends_n, examples.starts_n
    )
    return model.score(vectors.to(model.mean_D.device), features_nF).cpu()


def finetune_task(
    model: TaskModel,
    sequences: Sequences,
    examples: dict[str, Labelled],
    targets: dict[str, Tensor],
    settings: TuneSettings,
    features: dict[str, Tensor] | None = None,
) -> int:
    """Trains a task model in place, and leaves it at its best epoch by validation loss.

    Args:
      model: starts from a fitted head.
      sequences: where the histories are.
      examples: by split: train and valid.
      targets: of those examples.
      settings: how to train.
      features: by split, standardised [n, F], where the head sees them too.

    Returns:
      The best epoch; 0 where the fitted head on the encoder as given was best.
    """
    optimizer = make_optimizer(model, settings.lr, settings.weight_decay)
    best_loss, best_epoch = _valid_loss(model, sequences, examples, targets, features), 0
    best_state = copy.deepcopy(model.state_dict())
    for epoch in range(1, settings.epochs + 1):
        seen = features["train"] if features else None
        _train_epoch(
            model, sequences, examples["train"], targets["train"], seen, optimizer, settings, epoch
        )
        loss = _valid_loss(model, sequences, examples, targets, features)
        if loss < best_loss:
            best_loss, best_epoch = loss, epoch
            best_state = copy.deepcopy(model.state_dict())
        elif epoch - best_epoch >= settings.patience:
            break
    model.load_state_dict(best_state)
    return best_epoch


def _train_epoch(
    model: TaskModel,
    sequences: Sequences,
    examples: Labelled,
    targets_n: Tensor,
    features_nF: Tensor | None,
    optimizer: torch.optim.Optimizer,
    settings: TuneSettings,
    epoch: int,
) -> None:
    device, seed = model.mean_D.device, settings.seed
    batches = epoch_batches(np.arange(len(examples.users_n)), settings.batch_size, seed, epoch)
    model.train()
    for nth, chosen in enumerate(batches):
        progress = (epoch - 1 + nth / len(batches)) / settings.epochs
        set_lr(optimizer, settings.lr * schedule(progress, WARMUP))
        seen, length = examples.pick(chosen), model.user_model.config.max_length
        windows = random_windows(sequences, seen, Draw(seed, epoch, seen.users_n), length)
        torch.manual_seed(key_of(seed, epoch, nth) >> 1)
        known = None if features_nF is None else features_nF[torch.from_numpy(chosen)]
        scores = model(to_device(pack(windows), device), known)
        loss = task_loss(scores, targets_n[chosen].to(device))
        guarded_step(optimizer, model.parameters(), loss, clip=1.0)


def _valid_loss(
    model: TaskModel,
    sequences: Sequences,
    examples: dict[str, Labelled],
    targets: dict[str, Tensor],
    features: dict[str, Tensor] | None,
) -> float:
    known = features["valid"] if features else None
    scores = scores_of(model, sequences, examples["valid"], known)
    return float(task_loss(scores, targets["valid"]))
