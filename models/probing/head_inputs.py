"""What a head sees of a task's examples: a matrix a split, under the name that METRICS gives it."""

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.data.labels import Task
from models.data.sequences import Sequences
from models.nn.encoders.pooling import AttentionPooling
from models.nn.user_model import UserModel
from models.nn.vectors import user_vectors
from models.probing.heads import HeadFeatures


@dataclass(frozen=True)
class Inputs:
    """One kind of input of a task's examples.

    Attributes:
      name: as in METRICS: embedding, features, embedding+features.
      x: by split, [n, D]: row i is of example i of `task.splits[split]`; not standardized.
      encoder: what made x.
      features: by split, float64 [n, F], NaN where one is missing; none: the head sees x alone.
      feature_names: of their columns.
      view: of the feature store, that they are of.
      even: the same of the encoder that averages all states alike; none where it does so anyway.
    """

    name: str
    x: dict[str, Tensor]
    encoder: UserModel
    features: dict[str, np.ndarray] | None = None
    feature_names: tuple[str, ...] = ()
    view: str = ""
    even: "Inputs | None" = None

    def with_features(self, known: HeadFeatures, task: Task) -> "Inputs":
        """Adds the behavior features of each example's user, as of its day."""
        rows = {split: known.of(part) for split, part in task.splits.items()}
        even = self.even.with_features(known, task) if self.even else None
        named = {"feature_names": known.names, "view": known.view}
        return replace(self, name=f"{self.name}+features", features=rows, even=even, **named)


def embeddings(
    model: UserModel, sequences: Sequences, task: Task, with_even: bool = False
) -> Inputs:
    """Encodes every example of a task, each up to its own end; with even pooling too, if asked."""
    even = even_pooling(model) if with_even else None
    return replace(_encode(model, sequences, task), even=even and _encode(even, sequences, task))


def even_pooling(model: UserModel) -> UserModel | None:
    """A copy whose attention pooling gives all events of a user the same weight.

    None where the pooling does not weigh events. Pre-training may teach it to look at the few
    events that tell a hidden one, and a task may ask for something else; from here on it learns.
    """
    if not isinstance(model.encoder.pool, AttentionPooling):
        return None
    even = copy.deepcopy(model)
    with torch.no_grad():
        even.encoder.pool.score.weight.zero_()
    return even


def _encode(model: UserModel, sequences: Sequences, task: Task) -> Inputs:
    found = {
        split: user_vectors(model, sequences, part.users_n, part.ends_n, part.starts_n, part.now_n)
        for split, part in task.splits.items()
    }
    return Inputs("embedding", found, model)
