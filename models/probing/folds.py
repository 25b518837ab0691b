"""Labels that a stack is fitted on and judged by, and the folds that its examples are dealt to.

Shapes: n examples.
"""

from dataclasses import dataclass, replace

import numpy as np

from models.data.examples import is_newest
from models.data.rng import Draw
from models.probing.members import Member

FOLDS = 5
SAMPLE = 20_000  # training examples that are dealt to folds, and that trees are fitted on, at most


@dataclass(frozen=True)
class Labels:
    """What is known of the examples that a stack is fitted on.

    Attributes:
      train_n: class indices or numbers of the training examples.
      valid_n: of the validation examples.
      folds_n: which fold a training example is in; -1: in none, for it is not in the sample.
      classes: how many there are; 0 for a number.
      weights_n: what each training example counts (`Labeled.weights_n`).
    """

    train_n: np.ndarray
    valid_n: np.ndarray
    folds_n: np.ndarray
    classes: int
    weights_n: np.ndarray | None = None

    def of(self, member: Member) -> "Labels":
        """Those of a member's rows."""
        if not member.on_newest:
            return self
        newest_n = self.is_newest_n
        train_n, folds_n = self.train_n[newest_n], self.folds_n[newest_n]
        return replace(self, train_n=train_n, folds_n=folds_n, weights_n=None)

    @property
    def is_newest_n(self) -> np.ndarray:
        """Which training examples are of the as-of day, as validation and test examples are."""
        return is_newest(self.weights_n, len(self.train_n))

    @property
    def is_judged_n(self) -> np.ndarray:
        """Which training examples choices and weights are judged by."""
        return (self.folds_n >= 0) & self.is_newest_n

    @property
    def judged_n(self) -> np.ndarray:
        """The labels that weights are judged by: those in folds, and validation."""
        return np.concatenate([self.train_n[self.is_judged_n], self.valid_n])


def deal_folds(
    users_n: np.ndarray, y_n: np.ndarray, classes: int, weights_n: np.ndarray | None = None
) -> np.ndarray:
    """Deals examples to folds: those of one user together, users of each class in turn.

    Of more than `SAMPLE` examples, those of users drawn at random are dealt; the others get -1.
    Which class a user is of, their first example of the as-of day says (`Labeled.weights_n`).
    """
    newest = np.flatnonzero(is_newest(weights_n, len(users_n)))
    users, first = np.unique(users_n[newest], return_index=True)
    place = np.searchsorted(users, users_n)
    chance = Draw(0, 0, users).uniform("fold", 1)[:, 0]
    group = y_n[newest[first]] if classes else np.zeros(len(users))
    order = np.lexsort((chance, group))
    fold = np.empty(len(users), np.int64)
    fold[order] = np.arange(len(users)) % FOLDS
    fold = fold[place]
    if len(fold) > SAMPLE:
        drawn = np.argsort(chance[place], kind="stable")[SAMPLE:]
        fold[drawn] = -1
    return fold
