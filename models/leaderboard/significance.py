"""Is one better than another, or were the test users lucky?

With predictions: a paired bootstrap. Users are drawn with replacement, each with all that is known
of them in every seed, both models are measured on the draw, and the difference is averaged over the
seeds. Folds of a cross-validation are seeds whose test users differ: all users are drawn together,
and each fold is measured by itself, for scores of models that were trained apart are not on one
scale. Its 95% interval answers for the choice of test users; what pre-training seeds and splits add
is in the average over seeds, not in the interval. Without predictions: differences over seeds, each
on its own split, with a t interval; it needs two seeds and is wide with few.

No correction is made for the number of comparisons: of twenty rows without any effect, one is
marked.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import stats

from contracts.config.metrics import metric_of
from models.leaderboard.boards import Who, shown_metrics, who_of
from models.leaderboard.bootstrap import Bootstrap
from models.metrics.predictions import RUN, Predicted

BY_USERS, BY_SEEDS = "bootstrap", "seeds"  # how a difference was told from luck
LEVEL = 0.95
TFIDF = Who("tfidf_lr", "-", "baseline", "items")

# (task, metric, who, label share, R, S or T)
Key = tuple[str, str, Who, float, str]
Runs = Mapping[tuple, dict[str, Predicted]]  # of read_predictions


@dataclass(frozen=True)
class Difference:
    """How much better one is than another, with an interval; positive is better."""

    mean: float
    low: float
    high: float
    how: str  # BY_USERS or BY_SEEDS

    @property
    def sign(self) -> str:
        """+ or - where the interval leaves zero out."""
        return "+" if self.low > 0 else "-" if self.high < 0 else ""


def paired_bootstrap(
    metric: str, pairs: list[tuple[Predicted, Predicted]], bootstrap: Bootstrap
) -> Difference | None:
    """Compares two models on the same test users.

    Args:
      metric: what is compared; None is returned where it cannot be weighted.
      pairs: of each seed, the predictions of both on the same examples.
      bootstrap: draws the users.
    """
    total_R = bootstrap.differences(metric, pairs)
    if total_R is None:
        return None
    total_R *= metric_of(metric).sign
    low, high = np.nanquantile(total_R[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Difference(float(total_R[0]), float(low), float(high), BY_USERS)


def paired_seeds(metric: str, ours: list[float], theirs: list[float]) -> Difference | None:
    """Compares two models by their figures of the same seeds.

    Returns:
      None with fewer than two seeds, or where they change nothing and so tell nothing of luck.
    """
    differences = metric_of(metric).sign * (np.array(ours) - np.array(theirs))
    if len(ours) < 2 or np.ptp(differences) == 0:
        return None
    mean, error = differences.mean(), stats.sem(differences)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(differences) - 1) * error)
    return Difference(float(mean), float(mean - half), float(mean + half), BY_SEEDS)


def differences(
    table: pa.Table,
    runs: Runs | None = None,
    random: Mapping[tuple[str, str], str] | None = None,
) -> dict[Key, Difference]:
    """Compares every row of every board with its references, by each metric that is shown.

    Args:
      table: METRICS rows.
      runs: their predictions, where they were kept.
      random: (method, encoder) -> the method of the rows that are the same encoder with random
        weights; where it is left out, `none`.

    Returns:
      By key, the difference. R is the frozen vector of the same encoder with random weights, of the
      same inputs: what pre-training adds to a frozen row. S is the same encoder trained from
      scratch with the same inputs. T is TF-IDF with logistic regression.
    """
    rows, bootstrap = table.to_pylist(), Bootstrap()
    found: dict[Key, Difference] = {}
    for task in dict.fromkeys(row["task"] for row in rows):
        for metric in shown_metrics(task, rows):
            values: dict[tuple[Who, float], dict[int, float]] = {}
            for row in rows:
                if (row["task"], row["metric"]) == (task, metric) and row["value"] is not None:
                    seeds = values.setdefault((who_of(row), row["label_share"]), {})
                    seeds[row["seed"]] = row["value"]
            # Rows of the same seeds have the same users: side by side, these are drawn once.
            for (who, share), seeds in sorted(values.items(), key=lambda row: sorted(row[1])):
                for letter, other in _references(who, random):
                    theirs = values.get((other, share), {})
                    difference = _compare(
                        metric, task, share, (who, seeds), (other, theirs), runs, bootstrap
                    )
                    if difference:
                        found[task, metric, who, share, letter] = difference
    return found


def marks(found: Mapping[Key, Difference]) -> dict[tuple[str, str, Who, float], str]:
    """What stands beside a figure, such as `S+ T-`."""
    shown: dict[tuple[str, str, Who, float], str] = {}
    for (*cell, letter), difference in sorted(found.items(), key=lambda each: each[0]):
        if difference.sign:
            before = shown.get((*cell,))
            mark = letter + difference.sign
            shown[*cell,] = f"{before} {mark}" if before else mark
    return shown


def _references(who: Who, random: Mapping[tuple[str, str], str] | None) -> list[tuple[str, Who]]:
    """What a row is compared with, where it is measured: letter and row."""
    found = []
    untrained = who._replace(method="none")
    if random is not None:
        untrained = who._replace(method=random.get((who.method, who.encoder), ""))
    if who.protocol == "frozen" and who != untrained:
        found += [("R", untrained)]
    if who.protocol not in ("scratch", "baseline"):
        found += [("S", untrained._replace(protocol="scratch"))]
    return found + ([("T", TFIDF)] if who != TFIDF else [])


def _compare(
    metric: str,
    task: str,
    share: float,
    ours: tuple[Who, dict[int, float]],
    theirs: tuple[Who, dict[int, float]],
    runs: Runs | None,
    bootstrap: Bootstrap,
) -> Difference | None:
    seeds = sorted(ours[1].keys() & theirs[1].keys())
    if not seeds:
        return None
    pairs = []
    for seed in seeds if runs else []:
        both = [_test_of(runs, who, task, share, seed) for who, _ in (ours, theirs)]
        if both[0] is not None and both[1] is not None and _same_examples(both[0], both[1]):
            pairs.append((both[0], both[1]))
    if len(pairs) == len(seeds) and (difference := paired_bootstrap(metric, pairs, bootstrap)):
        return difference
    return paired_seeds(
        metric, [ours[1][seed] for seed in seeds], [theirs[1][seed] for seed in seeds]
    )


def _test_of(runs: Runs | None, who: Who, task: str, share: float, seed: int) -> Predicted | None:
    run = dict(zip(Who._fields, who, strict=True)) | {
        "task": task, "label_share": share, "seed": seed,
    }  # fmt: skip
    return (runs or {}).get(tuple(run[name] for name in RUN), {}).get("test")


def _same_examples(ours: Predicted, theirs: Predicted) -> bool:
    return np.array_equal(ours.users_n, theirs.users_n) and np.array_equal(ours.y_n, theirs.y_n)
