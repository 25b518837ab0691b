"""What a head sees of a task's examples: a matrix a split, under the name that METRICS gives it."""

from dataclasses import dataclass

from torch import Tensor

from models.data import Sequences
from models.tasks import Task
from models.user_model import UserModel
from models.vectors import user_vectors


@dataclass(frozen=True)
class Inputs:
    """One kind of input of a task's examples.

    Attributes:
      name: as in METRICS: embedding, features, embedding+features.
      x: by split, [n, D]: row i is of example i of `task.splits[split]`; not standardised.
    """

    name: str
    x: dict[str, Tensor]


def embeddings(model: UserModel, sequences: Sequences, task: Task) -> Inputs:
    """Encodes every example of a task, each up to its own end."""
    found = {
        split: user_vectors(model, sequences, part.users_n, part.ends_n, part.starts_n)
        for split, part in task.splits.items()
    }
    return Inputs("embedding", found)
