"""What a head sees of a task's examples: a matrix a split, under the name that METRICS gives it."""

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from models.data import Sequences
from models.heads import HeadFeatures
from models.tasks import Task
from models.user_model import UserModel
from models.vectors import user_vectors


@dataclass(frozen=True)
class Inputs:
    """One kind of input of a task's examples.

    Attributes:
      name: as in METRICS: embedding, features, embedding+features.
      x: by split, [n, D]: row i is of example i of `task.splits[split]`; not standardised.
      features: by split, float64 [n, F], NaN where one is missing; none: the head sees x alone.
    """

    name: str
    x: dict[str, Tensor]
    features: dict[str, np.ndarray] | None = None

    def with_features(self, known: HeadFeatures, task: Task) -> "Inputs":
        """Adds the behaviour features of each example's user."""
        rows = {split: known.x_UF[part.users_n] for split, part in task.splits.items()}
        return replace(self, name=f"{self.name}+features", features=rows)


def embeddings(model: UserModel, sequences: Sequences, task: Task) -> Inputs:
    """Encodes every example of a task, each up to its own end."""
    found = {
        split: user_vectors(model, sequences, part.users_n, part.ends_n, part.starts_n, part.now_n)
        for split, part in task.splits.items()
    }
    return Inputs("embedding", found)
