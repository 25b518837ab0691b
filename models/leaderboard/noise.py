"""How small a difference a table's test users can tell from luck.

In: a board and the differences of its rows from their references, with intervals of a bootstrap
over users (models.leaderboard.significance). Out: half the width of such an interval, for a typical
pair of rows at the most labels, and how many rows are that near the best.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.leaderboard.boards import Board
from models.leaderboard.significance import BY_USERS, Difference, Key


@dataclass(frozen=True)
class Noise:
    """What the test users of a task cannot tell apart."""

    task: str
    metric: str
    users: int  # that are a test user of any seed
    half_width: float  # median of the 95% intervals of differences, in the metric
    near: int  # rows that are nearer to the best than that
    others: int  # rows beside the best

    @property
    def is_too_few(self) -> bool:
        """Whether at least half of the rows could as well be the best."""
        return self.others > 0 and 2 * self.near >= self.others

    def sentence(self, folds: int = 0) -> str:
        """What stands below the table; with what to do, where the users are too few."""
        noise = f"differences below {self.half_width:.3f} {self.metric} are noise"
        if not self.is_too_few:
            return f"{self.users} test users: {noise}."
        more = (
            "all users are test users already" if folds else
            "use `footpath compare --folds 5`, where each user is a test user once"
        )  # fmt: skip
        return (
            f"Too few test users to tell most rows apart: of {self.users}, {noise}, and "
            f"{self.near} of {self.others} rows are that near the best; {more}."
        )


def noise_of(board: Board, found: Mapping[Key, Difference], users: int) -> Noise | None:
    """Measures the noise of a board at its most labels.

    Args:
      board: of one task.
      found: the differences of its rows, of `significance.differences`.
      users: that are a test user of any seed.

    Returns:
      None where no row was compared user by user.
    """
    share = max(board.shares)
    halves = [
        (each.high - each.low) / 2
        for (task, metric, _, at, _), each in found.items()
        if (task, metric, at, each.how) == (board.task, board.metric.name, share, BY_USERS)
    ]
    # Two rows that say the same of everybody differ by nothing, whoever is drawn.
    halves = [half for half in halves if half > 0]
    if not halves:
        return None
    half_width = float(np.median(halves))
    means = sorted(
        cells[share].mean * board.metric.sign for _, cells in board.rows if share in cells
    )
    near = sum(means[-1] - mean < half_width for mean in means[:-1])
    return Noise(board.task, board.metric.name, users, half_width, near, len(means) - 1)
