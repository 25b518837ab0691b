"""The head of a profile: what a stack has learnt, as arrays and a few facts.

In:  what is known of users as it is (vectors, behavior features, counts of items). Out: what the
stack predicts of them. It is stored as tensors and JSON, beside the encoder whose vectors it reads.

Shapes: n users, D width of the embedding, F features, V items, C classes (1 for a number).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from contracts.recipes.checkpoint import MemberFacts, ProfileFacts
from models.probing.bags import item_weights
from models.probing.fitted import KINDS, Fitted, arrays_of, kind_of, of_arrays
from models.probing.heads import FeatureScaler
from models.probing.members import Matrix
from models.probing.probe import Standardizer
from models.probing.stack import mean_of

EMBEDDING = "embedding."  # names of the standardizer's tensors begin so
FEATURES = "features."  # of the scaler's
MEMBERS = "member."  # of a member's, and then its name


@dataclass(frozen=True)
class Preparation:
    """What training users tell about the inputs; it makes of these what each member reads."""

    standardizer: Standardizer
    scaler: FeatureScaler | None  # none: the profile reads no features

    @classmethod
    def of(cls, embedding_nD: np.ndarray, features_nF: np.ndarray | None) -> "Preparation":
        """Measures the training users."""
        scaler = None if features_nF is None else FeatureScaler.of(features_nF)
        return cls(Standardizer.of(torch.from_numpy(embedding_nD)), scaler)

    def embedding(self, embedding_nD: np.ndarray) -> np.ndarray:
        """Standardized vectors."""
        return self.standardizer(torch.from_numpy(embedding_nD)).numpy()

    def inputs(
        self, embedding_nD: np.ndarray, features_nF: np.ndarray | None, tfidf_nV: Matrix
    ) -> dict[str, Matrix]:
        """The rows that each member of a profile reads, by its name."""
        x_nD = self.embedding(embedding_nD)
        found = {"embedding_lr": x_nD, "embedding_gbm": embedding_nD, "items_lr": tfidf_nV}
        if self.scaler is None or features_nF is None:
            return found
        scaled = self.scaler(features_nF).numpy()
        return found | {
            "features_lr": scaled,
            "features_gbm": features_nF,
            "joint_lr": np.concatenate([x_nD, scaled], axis=1),
            "joint_gbm": np.concatenate([features_nF, embedding_nD], axis=1),
        }


@dataclass(frozen=True)
class ProfileHead:
    """A weighted mean of fitted members, and what their inputs are made by."""

    preparation: Preparation
    idf_V: np.ndarray
    members: dict[str, tuple[float, Fitted]]  # name -> weight and model
    center_C: np.ndarray

    def __call__(
        self, embedding_nD: np.ndarray, features_nF: np.ndarray | None, counts_nV: csr_matrix
    ) -> np.ndarray:
        """Predicts users -> probabilities of classes, or numbers, float64 [n, C].

        Args:
          embedding_nD: user vectors, float32.
          features_nF: behavior features, float64, NaN where one is missing; none, where the profile
            reads none.
          counts_nV: of the items that each user has seen.
        """
        tfidf_nV = item_weights(self.idf_V).transform(counts_nV)
        inputs = self.preparation.inputs(embedding_nD, features_nF, tfidf_nV)
        said = [fitted(inputs[name]) for name, (_, fitted) in self.members.items()]
        weights_M = np.array([weight for weight, _ in self.members.values()])
        classes = len(self.center_C) if len(self.center_C) > 1 else 0
        return mean_of(said, classes, weights_M, self.center_C)

    def facts(self, view: str, features: tuple[str, ...], trees: int) -> ProfileFacts:
        """What is stored of it beside its tensors.

        Args:
          view: of behavior features, in the feature store.
          features: the columns that it reads, in order.
          trees: of gradient boosting, at most.
        """
        members = tuple(
            MemberFacts(name=name, kind=kind_of(fitted), weight=weight)
            for name, (weight, fitted) in self.members.items()
        )
        return ProfileFacts(view=view, features=features, trees=trees, members=members)

    def tensors(self) -> dict[str, Tensor]:
        """All arrays by name."""
        scaler, standardizer = self.preparation.scaler, self.preparation.standardizer
        arrays = {"idf_V": self.idf_V, "center_C": self.center_C}
        arrays |= _named(FEATURES, arrays_of(scaler)) if scaler else {}
        for name, (_, fitted) in self.members.items():
            arrays |= _named(f"{MEMBERS}{name}.", arrays_of(fitted))
        tensors = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}
        return tensors | _named(EMBEDDING, arrays_of(standardizer))

    @classmethod
    def of(cls, facts: ProfileFacts, tensors: Mapping[str, Tensor]) -> "ProfileHead":
        """Undoes `facts` and `tensors`.

        Raises:
          KeyError: a tensor is missing.
        """
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        standardizer = of_arrays(Standardizer, tensors, EMBEDDING)
        scaler = of_arrays(FeatureScaler, arrays, FEATURES) if facts.features else None
        members = {
            member.name: (
                member.weight,
                of_arrays(KINDS[member.kind], arrays, f"{MEMBERS}{member.name}."),
            )
            for member in facts.members
        }
        return cls(Preparation(standardizer, scaler), arrays["idf_V"], members, arrays["center_C"])


def _named(prefix: str, things: dict) -> dict:
    return {f"{prefix}{name}": thing for name, thing in things.items()}
