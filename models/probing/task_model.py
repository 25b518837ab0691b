"""A task model: user model, standardizer and linear head, trained together.

It starts as the frozen probe it is compared with, so what fine-tuning adds is seen, and training
stops where the validation loss does: a model that fine-tuning does not help stays the probe.
"""

import numpy as np
import torch
from torch import Tensor, nn

from contracts.base.errors import FootpathError
from models.checkpoint import Checkpoint
from models.data.examples import Labeled, last_windows, random_windows
from models.data.packed import Packed, pack, to_device
from models.data.rng import Draw
from models.data.sequences import Sequences
from models.nn.user_model import UserModel
from models.nn.vectors import user_vectors
from models.probing.probe import Linear, Standardizer, task_loss
from models.training.fit import TuneSettings, tune


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
        """Scores user vectors; the features are standardized already."""
        x_BD = (users_BD - self.mean_D) / self.scale_D
        if features_BF is not None:
            x_BD = torch.cat([x_BD, features_BF.to(x_BD.device)], dim=1)
        return self.head(x_BD)


def task_model_of(checkpoint: Checkpoint) -> TaskModel:
    """Task model of a fine-tuned checkpoint, around the checkpoint's user model.

    Raises:
      FootpathError: its head is not whole.
    """
    weights = checkpoint.head
    try:
        standardizer = Standardizer(weights["mean_D"], weights["scale_D"])
        head = Linear(weights["head.weight"], weights["head.bias"])
    except KeyError as error:
        raise FootpathError(
            f"{checkpoint.folder} has no {error} of its task: fine-tune the model again"
        ) from None
    return TaskModel(checkpoint.model, standardizer, head)


@torch.no_grad()
def scores_of(
    model: TaskModel,
    sequences: Sequences,
    examples: Labeled,
    features_nF: Tensor | None = None,
) -> Tensor:
    """Scores all that is seen of n examples -> [n, C] on the CPU."""
    seen = (examples.users_n, examples.ends_n, examples.starts_n, examples.now_n)
    vectors = user_vectors(model.user_model, sequences, *seen)
    return model.score(vectors.to(model.mean_D.device), features_nF).cpu()


def finetune_task(
    model: TaskModel,
    sequences: Sequences,
    examples: dict[str, Labeled],
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
      features: by split, standardized [n, F], where the head sees them too.

    Returns:
      The best epoch; 0 where the fitted head on the encoder as given was best.
    """
    device, length = model.mean_D.device, model.user_model.config.max_length

    def loss_of(chosen: np.ndarray, epoch: int) -> Tensor:
        seen = examples["train"].pick(chosen)
        if model.user_model.config.summary:  # it goes with the last events
            windows = last_windows(sequences, seen, length)
        else:
            draw = Draw(settings.seed, epoch, seen.users_n)
            windows = random_windows(sequences, seen, draw, length)
        known = features["train"][torch.from_numpy(chosen)] if features else None
        scores = model(to_device(pack(windows), device), known)
        return task_loss(scores, targets["train"][chosen].to(device))

    def valid_loss() -> float:
        known = features["valid"] if features else None
        scores = scores_of(model, sequences, examples["valid"], known)
        return float(task_loss(scores, targets["valid"]))

    return tune(model, len(examples["train"].users_n), loss_of, valid_loss, settings)
