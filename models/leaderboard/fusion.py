"""What a model adds to the bag of items: its probabilities mixed with those of TF-IDF.

The share of the model is chosen on the validation users, apart for each label share and seed; 0 and
1, one of the two alone, are among the choices. No model is trained again: predictions are enough.
"""

from collections.abc import Mapping

import numpy as np

from models.leaderboard.boards import Who
from models.leaderboard.significance import TFIDF
from models.metrics.formulas import weighted
from models.metrics.predictions import PROFILE, RUN, Predicted

SHARES = np.linspace(0, 1, 11)


def fused(
    rows: list[dict], runs: Mapping[tuple, dict[str, Predicted]]
) -> tuple[list[dict], dict[tuple, dict[str, Predicted]]]:
    """Mixes every run of classes or numbers with TF-IDF of its task, label share and seed.

    Args:
      rows: METRICS rows.
      runs: their predictions.

    Returns:
      More METRICS rows, whose inputs end in `+items`, and their predictions.
    """
    more_rows, more_runs = [], {}
    by_run: dict[tuple, list[dict]] = {}
    for row in rows:
        by_run.setdefault(tuple(row[name] for name in RUN), []).append(row)
    for run, found in by_run.items():
        who = Who(*run[:4])
        theirs = runs.get((*TFIDF, *run[4:]))
        ours = runs.get(run)
        if who.protocol == "baseline" or not ours or not theirs or _is_ranking(ours):
            continue
        if who.inputs == PROFILE:  # it has the items
            continue
        if any(not np.array_equal(ours[s].users_n, theirs[s].users_n) for s in ("valid", "test")):
            continue
        inputs = f"{who.inputs}+items"
        mixed = mix(ours, theirs)
        more_runs[(*who[:3], inputs, *run[4:])] = mixed
        for row in found:
            value = weighted(row["metric"], mixed["test"])
            if value is not None:
                only = float(value(np.ones((1, len(mixed["test"].y_n))))[0])
                known = None if np.isnan(only) else only
                more_rows.append(row | {"inputs": inputs, "value": known})
    return more_rows, more_runs


def mix(ours: dict[str, Predicted], theirs: dict[str, Predicted]) -> dict[str, Predicted]:
    """Mixes two models' predictions by the share that does best on the validation users."""
    losses = [_loss(ours["valid"], _blend(ours["valid"], theirs["valid"], w)) for w in SHARES]
    best = float(SHARES[int(np.argmin(losses))])
    return {
        split: Predicted(
            ours[split].kind,
            ours[split].users_n,
            ours[split].y_n,
            _blend(ours[split], theirs[split], best),
        )
        for split in ("valid", "test")
    }


def _blend(ours: Predicted, theirs: Predicted, share: float) -> np.ndarray:
    return share * ours.scores_nC + (1 - share) * theirs.scores_nC


def _loss(truth: Predicted, scores_nC: np.ndarray) -> float:
    """Cross-entropy, or mean absolute error."""
    if truth.kind == "classification":
        said = scores_nC[np.arange(len(scores_nC)), truth.y_n.astype(int)]
        return float(-np.log(np.maximum(said, 1e-9)).mean())
    return float(np.abs(scores_nC[:, 0] - truth.y_n).mean())


def _is_ranking(found: dict[str, Predicted]) -> bool:
    return next(iter(found.values())).kind == "ranking"
