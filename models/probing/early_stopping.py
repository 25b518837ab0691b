"""Validation probe for early stopping: are the vectors still getting better for a task?

After every few epochs a frozen probe is fitted on the task's training users, as of the as-of day
alone; its loss on the validation users judges the weights. Test users are never looked at.
"""

import math
from pathlib import Path

import torch
from torch import Tensor

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_rows
from contracts.recipes.jobs import TaskSpec
from contracts.recipes.recipe import EarlyStopping
from models.data.examples import Labeled
from models.data.labels import load_tasks
from models.data.sequences import Sequences
from models.nn.user_model import UserModel
from models.nn.vectors import user_vectors
from models.probing.probe import Scale, Standardizer, fit_head, task_loss
from models.training.held_out import is_over


class ValidationProbe:
    """Validation loss of a frozen probe: the `Judge` that a trainer is given."""

    def __init__(self, stopping: EarlyStopping, labels: Path, sequences: Sequences) -> None:
        """Reads the labels.

        Raises:
          FootpathError: they cannot be read, or do not go with the sequences.
        """
        self.stopping, self.sequences = stopping, sequences
        assert stopping.task is not None
        asked = TaskSpec(name=stopping.task, kind=stopping.kind)
        self.task = load_tasks(labels, sequences, (asked,))[0].newest()
        self.fingerprint = hash_rows(labels, stopping.task)

    def is_due(self, epochs: int, planned: int) -> bool:
        """Whether to judge after so many epochs; always after the last."""
        return epochs % self.stopping.every_epochs == 0 or epochs == planned

    def loss(self, model: UserModel) -> float:
        """The probe's validation loss; the model is left in evaluation mode."""
        task, parts = self.task, self.task.splits
        x = {split: self._vectors(model, parts[split]) for split in ("train", "valid")}
        scale = Scale.of(task, parts["train"].y_n)
        y = {split: scale.targets(parts[split].y_n) for split in x}
        standardizer = Standardizer.of(x["train"])
        x = {split: standardizer(vectors) for split, vectors in x.items()}
        head = fit_head((x["train"], y["train"]), (x["valid"], y["valid"]), len(task.classes))
        loss = float(task_loss(head(x["valid"]), y["valid"]))
        if not math.isfinite(loss):
            raise FootpathError(f"validation task '{task.name}': the probe's loss is {loss}")
        return loss

    def is_over(self, losses_E: Tensor) -> bool:
        """Whether the last `patience` judgments brought nothing better."""
        return is_over(losses_E, self.stopping.patience)

    def _vectors(self, model: UserModel, part: Labeled) -> Tensor:
        with torch.no_grad():
            return user_vectors(
                model, self.sequences, part.users_n, part.ends_n, part.starts_n, part.now_n
            )
