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


def test_noise_is_half_the_width_of_the_interval_and_warns_where_most_rows_are_within_it():
    board, found = board_of([0.06, 0.05, 0.3], 100)
    noise = noise_of(board, found, 100)
    # The difference of two that are right by half, independently: 1.96 * sqrt(.5 / 100) = .14.
    assert noise.half_widths["accuracy"] == pytest.approx(0.139, abs=0.02)
    assert (noise.near, noise.others, noise.is_too_few) == (0, 3, False)
    assert noise.sentence() == (
        f"100 test users: differences below {noise.half_widths['accuracy']:.3f} accuracy are noise."
    )
    # Rows that are TF-IDF but for little are no measure of luck.
    more, others = board_of([0.06, 0.05, 0.3], 100, mixed=3)
    assert len(more.rows) == 7
    assert noise_of(more, others, 100) == noise
    board, found = board_of([0.06, 0.05, 0.08], 100)
    noise = noise_of(board, found, 100)
    assert (noise.near, noise.others, noise.is_too_few) == (3, 3, True)
    assert noise.sentence() == (
        f"Too few test users to tell most rows apart: of 100, differences below "
        f"{noise.half_widths['accuracy']:.3f} accuracy are noise, and 3 of 3 rows are "
        f"that near the best; use `footpath compare --folds 5`, where each user is a test user "
        f"once."
    )
    assert noise.sentence(folds=5).endswith("the best; all users are test users already.")
    # A hundred times the users, the same differences.
    board, found = board_of([0.06, 0.05, 0.08], 10_000)
    noise = noise_of(board, found, 10_000)
    assert noise.half_widths["accuracy"] == pytest.approx(0.0139, abs=0.002)
    assert (noise.near, noise.is_too_few) == (0, False)
    assert noise_of(board, {}, 10_000) is None
