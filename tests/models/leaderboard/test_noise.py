"""What test users can tell apart, and the warning where they are too few."""

import numpy as np
import pyarrow as pa
import pytest

from contracts.lake.schemas import METRICS
from models.leaderboard.boards import boards
from models.leaderboard.noise import noise_of
from models.leaderboard.significance import TFIDF, differences
from models.metrics.predictions import Predicted
from tests.models.leaderboard.test_significance import PTUM, metric_rows, run_of


def board_of(gains: list[float], users: int, mixed: int = 0) -> tuple:
    """A board of TF-IDF, rows that are right so much more often, and rows mixed with TF-IDF."""
    y = np.zeros(users)
    rows, runs = [], {}
    for n, right in enumerate([0.5, *(0.5 + gain for gain in gains)]):
        who = PTUM._replace(method=f"m{n}") if n else TFIDF
        is_right = np.random.default_rng(n).permutation(users) < right * users
        found = Predicted(
            "classification", np.arange(users), y, np.eye(2)[1 - is_right.astype(int)]
        )
        runs[run_of(who)] = {"test": found}
        rows += [metric_rows(who, [is_right.mean()])[0] | {"metric": "accuracy"}]
    for n in range(mixed):  # TF-IDF, but for one user
        who = PTUM._replace(method=f"m{n + 1}", inputs="embedding+items")
        scores = runs[run_of(TFIDF)]["test"].scores_nC.copy()
        scores[n] = scores[n, ::-1]
        runs[run_of(who)] = {"test": Predicted("classification", np.arange(users), y, scores)}
        value = scores.argmax(axis=1) == 0
        rows += [metric_rows(who, [value.mean()])[0] | {"metric": "accuracy"}]
    table = pa.Table.from_pylist(rows, schema=METRICS)
    return boards(table)[0], differences(table, runs)


def test_noise_is_half_the_width_of_the_interval_and_warns_where_it_hides_a_tenth_of_the_gain():
    board, found = board_of([0.06, 0.05, 0.4], 100)
    noise = noise_of(board, found, 100)
    # The difference of two that are right by half, independently: 1.96 * sqrt(.5 / 100) = .14.
    half = noise.half_widths["accuracy"]
    assert half == pytest.approx(0.139, abs=0.02)
    assert (noise.near, noise.others, noise.is_too_few) == (0, 3, True)  # .14 of .4
    assert noise.sentence() == (
        f"Too few test users: of 100, differences below {half:.3f} accuracy are noise, and 0 of "
        f"the other 3 rows lie that near the best; use `footpath compare --folds 5`, where each "
        f"user is a test user once."
    )
    assert noise.sentence(folds=5).endswith("the best; all users are test users already.")
    # Rows that are TF-IDF but for little are no measure of luck.
    more, others = board_of([0.06, 0.05, 0.4], 100, mixed=3)
    assert len(more.rows) == 7
    assert noise_of(more, others, 100) == noise
    # A hundred times the users, the same differences.
    board, found = board_of([0.06, 0.05, 0.4], 10_000)
    noise = noise_of(board, found, 10_000)
    half = noise.half_widths["accuracy"]
    assert half == pytest.approx(0.0139, abs=0.002)
    assert not noise.is_too_few  # .014 of .4
    assert noise.sentence() == f"10000 test users: differences below {half:.3f} accuracy are noise."
    # Three rows within .03 of each other, all far above the first.
    board, found = board_of([0.39, 0.38, 0.4], 1000)
    assert noise_of(board, found, 1000).near == 2
    assert noise_of(board, {}, 1000) is None
