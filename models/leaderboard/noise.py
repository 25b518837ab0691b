"""How small a difference a table's test users can tell from luck.

In: a board and the differences of its rows from their references, with intervals of a bootstrap
over users (models.leaderboard.significance). Out: half the width of such an interval, for a typical
pair of rows at the most labels, and how many rows lie that near the best. Rows that are mixed with
TF-IDF do not count: where they are near it, they are so by what they are, whoever is asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.leaderboard.boards import Board, Who
from models.leaderboard.significance import BY_USERS, Difference, Key

# Of what the best row has learnt: a choice. Who cannot tell a tenth of it cannot rank methods.
TOLD = 0.1


@dataclass(frozen=True)
class Noise:
    """What the test users of a task cannot tell apart."""

    users: int  # that are a test user of any seed
    half_widths: dict[str, float]  # by metric shown: median of the 95% intervals of differences
    near: int  # rows that are nearer to the best than that
    others: int  # rows beside the best
    is_too_few: bool  # it is more than a tenth of what the best row is ahead of knowing nothing

    def sentence(self, folds: int = 0) -> str:
        """What stands below the table; with what to do, where the users are too few."""
        halves = [f"{half:.3f} {metric}" for metric, half in self.half_widths.items()]
        noise = f"differences below {' and '.join(halves)} are noise"
        if not self.is_too_few:
            return f"{self.users} test users: {noise}."
        more = (
            "all users are test users already" if folds else
            "use `footpath compare --folds 5`, where each user is a test user once"
        )  # fmt: skip
        return (
            f"Too few test users: of {self.users}, {noise}, and {self.near} of the other "
            f"{self.others} rows lie that near the best; {more}."
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
    halves: dict[str, list[float]] = {}
    for (task, metric, who, at, _), each in found.items():
        if (task, at, each.how) == (board.task, share, BY_USERS) and not _is_mixed(who):
            halves.setdefault(metric, []).append((each.high - each.low) / 2)
    # Two rows that say the same of everybody differ by nothing, whoever is drawn.
    known = {name: [half for half in each if half > 0] for name, each in halves.items()}
    half_widths = {name: float(np.median(each)) for name, each in known.items() if each}
    if board.metric.name not in half_widths:
        return None
    half_width = half_widths[board.metric.name]
    means = {
        who: cells[share].mean * board.metric.sign
        for who, cells in board.rows
        if share in cells and not _is_mixed(who)
    }
    best = max(means.values())
    # Who knows nothing: the majority class or the median; of a ranking, the worst row.
    nothing = [mean for who, mean in means.items() if who.method == "majority"]
    gain = best - (nothing[0] if nothing else min(means.values()))
    near = sum(best - mean < half_width for mean in means.values()) - 1
    return Noise(users, half_widths, near, len(means) - 1, half_width > TOLD * gain)


def _is_mixed(who: Who) -> bool:
    return who.inputs.endswith("+items")
