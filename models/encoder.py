"""A checkpoint that is ready to encode: user vectors, and what a task model predicts of them.

In: a checkpoint folder and sequences in its vocabulary, of files or of memory. Out: vectors and
predictions, the same for the users of a day (models/embed.py) and for one who came a minute ago.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from contracts.recipes.checkpoint import TaskFacts
from models.checkpoint import Checkpoint, load_checkpoint
from models.data.sequences import Sequences
from models.nn.behavior import attach_text
from models.nn.vectors import vector_blocks
from models.probing.probe import Scale
from models.probing.task_model import TaskModel, task_model_of


@dataclass(frozen=True)
class Encoded:
    """Vectors of n users, float32 [n, D], and of a task model their predictions [n, C].

    A prediction is a number, the chance of the second of two classes, or the chance of each of
    more classes; NaN where it is no number.
    """

    vectors_nD: np.ndarray
    predicted_nC: np.ndarray | None


@dataclass(frozen=True)
class Encoder:
    """A loaded model, and the scorer of a task model."""

    checkpoint: Checkpoint
    scorer: TaskModel | None
    device: torch.device

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> "Encoder":
        """Loads a checkpoint onto a device.

        Raises:
          FootpathError: the folder holds no whole checkpoint, or one that is damaged.
        """
        checkpoint = load_checkpoint(folder)
        scorer = task_model_of(checkpoint).to(device) if checkpoint.facts.task else None
        return cls(checkpoint, scorer, device)

    @property
    def task(self) -> TaskFacts | None:
        """What it predicts; None of a pre-trained model."""
        return self.checkpoint.facts.task

    def encode(
        self, sequences: Sequences, users_U: np.ndarray, now: int
    ) -> Iterator[tuple[slice, Encoded]]:
        """Encodes all events of users, block by block; takes the texts of the sequences.

        Args:
          sequences: in the vocabulary of the checkpoint.
          users_U: rows of users who have events.
          now: unix second at which they are looked at.
        """
        model = self.checkpoint.model
        sequences = model.config.reading(sequences)
        attach_text(model, sequences)
        model.to(self.device)
        now_U = np.full(len(users_U), now)
        for block, vectors_nD in vector_blocks(model, sequences, users_U, now_U=now_U):
            yield block, Encoded(vectors_nD.numpy(), self._predictions(vectors_nD))

    @torch.no_grad()
    def _predictions(self, vectors_nD: Tensor) -> np.ndarray | None:
        if self.scorer is None or self.task is None:
            return None
        scores_nC = self.scorer.score(vectors_nD.to(self.scorer.mean_D.device)).cpu()
        scale = Scale(self.task.target_center, self.task.target_spread)
        predicted_nC = scale.predictions(scores_nC, bool(self.task.classes)).astype(np.float32)
        return predicted_nC if self.task.scores > 1 else predicted_nC[:, -1:]
