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

from contracts.base.errors import FootpathError
from contracts.recipes.checkpoint import TaskFacts
from models.checkpoint import Checkpoint, load_checkpoint
from models.data.examples import whole_histories
from models.data.sequences import Sequences
from models.nn.behavior import attach_text
from models.nn.vectors import vector_blocks
from models.probing.bags import item_counts
from models.probing.heads import HeadFeatures
from models.probing.probe import Scale
from models.probing.profile_head import ProfileHead
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
    """A loaded model, and the head of a task's model."""

    checkpoint: Checkpoint
    head: TaskModel | ProfileHead | None
    device: torch.device

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> "Encoder":
        """Loads a checkpoint onto a device.

        Raises:
          FootpathError: the folder holds no whole checkpoint, or one that is damaged.
        """
        checkpoint, head = load_checkpoint(folder), None
        if checkpoint.facts.task:
            if checkpoint.facts.task.profile:
                head = profile_head_of(checkpoint)
            else:
                head = task_model_of(checkpoint).to(device)
        return cls(checkpoint, head, device)

    @property
    def task(self) -> TaskFacts | None:
        """What it predicts; None of a pre-trained model."""
        return self.checkpoint.facts.task

    def encode(
        self,
        sequences: Sequences,
        users_U: np.ndarray,
        now: int,
        features: HeadFeatures | None = None,
    ) -> Iterator[tuple[slice, Encoded]]:
        """Encodes all events of users, block by block; takes the texts of the sequences.

        Args:
          sequences: in the vocabulary of the checkpoint.
          users_U: rows of users who have events.
          now: unix second at which they are looked at.
          features: of the users of the sequences; a profile that reads some says nothing without.

        Raises:
          FootpathError: the features are not those that a profile reads.
        """
        model = self.checkpoint.model
        self._check(features)
        sequences = model.config.reading(sequences)
        attach_text(model, sequences)
        model.to(self.device)
        now_U = np.full(len(users_U), now)
        for block, vectors_nD in vector_blocks(model, sequences, users_U, now_U=now_U):
            predicted = self._predictions(vectors_nD, sequences, users_U[block], features)
            yield block, Encoded(vectors_nD.numpy(), predicted)

    def _check(self, features: HeadFeatures | None) -> None:
        profile = self.task.profile if self.task else None
        if features and profile and features.names != profile.features:
            other = sorted({*features.names} ^ {*profile.features}) or ["their order"]
            raise FootpathError(
                f"{self.checkpoint.folder} reads other features than it is given "
                f"({', '.join(other[:3])}): give it those of {profile.view}"
            )

    @torch.no_grad()
    def _predictions(
        self,
        vectors_nD: Tensor,
        sequences: Sequences,
        users_n: np.ndarray,
        features: HeadFeatures | None,
    ) -> np.ndarray | None:
        if self.head is None or self.task is None:
            return None
        if isinstance(self.head, ProfileHead):
            if self.task.reads_features and features is None:
                return np.full((len(users_n), self.task.scores), np.nan, np.float32)
            known_nF = features.x_UF[users_n] if features else None
            counts_nV = item_counts(sequences, whole_histories(sequences, users_n))
            predicted_nC = self.head(vectors_nD.numpy(), known_nF, counts_nV)
        else:
            scores_nC = self.head.score(vectors_nD.to(self.head.mean_D.device)).cpu()
            scale = Scale(self.task.target_center, self.task.target_spread)
            predicted_nC = scale.predictions(scores_nC, bool(self.task.classes))
        predicted_nC = predicted_nC.astype(np.float32)
        return predicted_nC if self.task.scores > 1 else predicted_nC[:, -1:]


def profile_head_of(checkpoint: Checkpoint) -> ProfileHead:
    """The head of a profile's checkpoint.

    Raises:
      FootpathError: it is not whole.
    """
    assert checkpoint.facts.task
    assert checkpoint.facts.task.profile
    try:
        return ProfileHead.of(checkpoint.facts.task.profile, checkpoint.head)
    except KeyError as error:
        raise FootpathError(
            f"{checkpoint.folder} has no {error} of its profile: measure the model's tasks again"
        ) from None
