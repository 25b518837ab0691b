"""Draws of test users with replacement, the same for all models that are compared on them.

Every model's figures under the draws are taken once, however many models it is compared with, and
a block of draws at a time: with tens of thousands of users the weights of all draws at once are
gigabytes.

Shapes: n examples, U users, R draws.
"""

import numpy as np

from models.metrics.formulas import mean_of_known, weighted
from models.metrics.predictions import Predicted

ROUNDS = 1000
BLOCK_WEIGHTS = 1 << 19  # examples' weights that are held at a time


class Bootstrap:
    """Draws of users, and what models were worth under each.

    One set of users is held at a time: ask for all comparisons of a task before the next.
    """

    def __init__(self, rounds: int = ROUNDS, seed: int = 0) -> None:
        self.rounds, self.seed = rounds, seed
        self._users = np.zeros(0, np.int64)
        self._drawn_RU = np.zeros((0, 0), np.uint16)
        self._known: dict[tuple[str, int], tuple[Predicted, np.ndarray | None]] = {}

    def differences(
        self, metric: str, pairs: list[tuple[Predicted, Predicted]]
    ) -> np.ndarray | None:
        """How much larger the first of each pair is, averaged over pairs -> [1 + R].

        The first figure is that of the users as they are. A user of several pairs is drawn with all
        that is known of them; of folds, whose users differ, those of all folds are drawn together.

        Args:
          metric: what is compared; None is returned where it cannot be weighted.
          pairs: of each seed, the predictions of both on the same examples.
        """
        self._draw(np.unique(np.concatenate([ours.users_n for ours, _ in pairs])))
        found = []
        for pair in pairs:
            ours_R, theirs_R = (self._figures(metric, predicted) for predicted in pair)
            if ours_R is None or theirs_R is None:
                return None
            found.append(ours_R - theirs_R)
        # A draw may leave one of the seeds, a small fold, without a class: the others count.
        return mean_of_known(found, self.rounds + 1)

    def _draw(self, users_U: np.ndarray) -> None:
        if np.array_equal(users_U, self._users):
            return
        count, rng = len(users_U), np.random.default_rng(self.seed)
        drawn_RU = np.ones((self.rounds + 1, count), np.uint16)  # one row that is no draw
        block = max(1, BLOCK_WEIGHTS // count)
        for start in range(1, self.rounds + 1, block):
            rows = drawn_RU[start : start + block]
            rows[:] = rng.multinomial(count, np.full(count, 1 / count), len(rows))
        self._users, self._drawn_RU, self._known = users_U, drawn_RU, {}

    def _figures(self, metric: str, found: Predicted) -> np.ndarray | None:
        # The predictions are kept beside their figures, so that no other object gets their id.
        key = (metric, id(found))
        if key not in self._known:
            self._known[key] = found, self._measure(metric, found)
        return self._known[key][1]

    def _measure(self, metric: str, found: Predicted) -> np.ndarray | None:
        value = weighted(metric, found)
        if value is None:
            return None
        place_n = np.searchsorted(self._users, found.users_n)
        block = max(1, BLOCK_WEIGHTS // max(1, len(place_n)))
        return np.concatenate(
            [
                value(self._drawn_RU[start : start + block].take(place_n, axis=1).astype(float))
                for start in range(0, self.rounds + 1, block)
            ]
        )
