"""Heads that see the embedding, the behavior features, or both.

Comes in: `head_features/<as_of>.parquet`, a row a user, or several with an `as_of` each. Goes out:
standardized feature blocks, and a linear head over [embedding, features].

Each block has a penalty of its own: a block that is multiplied by w pays the penalty / w^2. The
pair of weights is chosen on the validation users, and leaving a block out is among the choices. The
features come in only where they lower the loss by more than half the standard error of that
difference: features that say nothing are left out, rather than chosen by luck. The difference is
taken over the validation users and, by cross-validation, the training users: the former alone are
few, and with few of them features that do help look like luck.

Shapes: n users, U users of the sequences, D width of the embedding, F columns, C classes.
"""

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from contracts.base.errors import FootpathError
from contracts.lake.schemas import VIEW
from models.data.examples import Labeled
from models.data.sequences import Sequences
from models.probing.probe import PENALTIES, Linear, best_head, example_losses, head_path
from models.probing.standardize import known_moments, signed_log

KEY, AS_OF = "user_id", "as_of"
SKEWED = 1.0  # |skewness| from which a column is taken by its logarithm
FAR = 6.0  # standard deviations to which an outlier of the other users is drawn in

# Weights of (embedding, features) that are tried; the first leaves the features out.
WEIGHTS = ((1.0, 0.0), (1.0, 0.1), (1.0, 0.3), (1.0, 1.0), (0.3, 1.0), (0.0, 1.0))

FOLDS = 5
SURE = 0.5  # standard errors by which features must lower the loss to come in

Blocks = tuple[Tensor, Tensor, Tensor]  # embedding, features, targets


@dataclass(frozen=True)
class HeadFeatures:
    """Features of every user of the sequences; NaN where none are known."""

    names: tuple[str, ...]
    x_UF: np.ndarray  # as of the newest day
    view: str = ""  # of the feature store, that they are of
    days: dict[int, np.ndarray] = field(default_factory=dict)  # of several: all, by unix second

    def of(self, examples: Labeled) -> np.ndarray:
        """What was known of each example's user at its own day -> float64 [n, F].

        Raises:
          FootpathError: nothing is there of that day.
        """
        x_nF = self.x_UF[examples.users_n]
        if examples.now_n is None or (examples.is_newest_n.all() and not self.days):
            return x_nF
        for second in np.unique(examples.now_n):
            if second not in self.days:
                at = dt.datetime.fromtimestamp(second, dt.UTC)
                raise FootpathError(
                    f"head features know nothing as of {at.isoformat()}, and users are labeled "
                    f"as of then: write head_features anew"
                )
            at_n = examples.now_n == second
            x_nF[at_n] = self.days[second][examples.users_n[at_n]]
        return x_nF


@dataclass(frozen=True)
class FeatureScaler:
    """What the training users tell about the columns; applied to all users alike."""

    is_skewed_F: np.ndarray
    mean_F: np.ndarray
    scale_F: np.ndarray
    flagged: np.ndarray  # columns that get a flag for a missing value

    @classmethod
    def of(cls, x_nF: np.ndarray) -> "FeatureScaler":
        """Measures the training users; a column that never varies becomes zeros."""
        is_skewed = np.abs(_skewness(x_nF)) > SKEWED
        logged = np.where(is_skewed, signed_log(x_nF), x_nF)
        mean, scale = known_moments(logged)
        # Columns of one source are missing together: one flag says it for all of them.
        missing = np.isnan(x_nF)
        _, first = np.unique(missing, axis=1, return_index=True)
        flagged = np.array([f for f in sorted(first) if 0 < missing[:, f].sum() < len(x_nF)], int)
        return cls(is_skewed, mean, scale, flagged)

    @property
    def width(self) -> int:
        """Columns that go out."""
        return len(self.mean_F) + len(self.flagged)

    def __call__(self, x_nF: np.ndarray) -> Tensor:
        """Standardizes users -> float32 [n, width]; a missing value is 0 and has its flag."""
        logged = np.where(self.is_skewed_F, signed_log(x_nF), x_nF)
        scaled = np.clip((logged - self.mean_F) / self.scale_F, -FAR, FAR)
        flags = np.isnan(x_nF[:, self.flagged])
        whole = np.concatenate([np.nan_to_num(scaled, nan=0.0), flags], axis=1)
        return torch.from_numpy(whole.astype(np.float32))


@dataclass(frozen=True)
class JointHead:
    """A head over [embedding, features], and the weights that validation chose."""

    linear: Linear
    weights: tuple[float, float]  # of the embedding and of the features


def load_head_features(path: Path, sequences: Sequences) -> HeadFeatures:
    """Reads head features in the order of the users of the sequences.

    Raises:
      FootpathError: the file is unreadable, has no numeric column, names a user twice as of one
        instant, holds an infinite value, or knows none of the users.
    """
    if held_out := sequences.pointer.get("holdout"):
        raise FootpathError(
            f"{path} sees all events, and {sequences.path} leaves the last {held_out} of each user "
            f"out because they answer: measure these tasks without head_features"
        )
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise FootpathError(f"{path} cannot be read as Parquet: {error}") from None
    names = tuple(name for name in table.column_names if name not in (KEY, AS_OF))
    if KEY not in table.column_names or not names:
        raise FootpathError(f"{path}: expected user_id and feature columns, found {table.schema}")
    if wrong := [name for name in names if not _is_number(table.schema.field(name).type)]:
        raise FootpathError(f"{path}: column {wrong[0]} is not numeric: write head_features anew")
    parts = _by_day(path, table)
    newest, users = max(parts), pa.array(sequences.user_ids(), pa.string())
    found = {day: _of_users(path, part, names, users) for day, part in parts.items()}
    if not found[newest][1]:
        raise FootpathError(
            f"{path} knows none of the users of {sequences.path}: build both as of the same day"
        )
    view = (table.schema.metadata or {}).get(VIEW, b"").decode()
    days = {day: x_UF for day, (x_UF, _) in found.items() if day}
    return HeadFeatures(names, found[newest][0], view, days)


def _by_day(path: Path, table: pa.Table) -> dict[int, pa.Table]:
    """The rows by the unix second that they are as of; 0 where there is one day and it is not told.

    Raises:
      FootpathError: that is no instant.
    """
    if AS_OF not in table.column_names:
        return {0: table}
    if not pa.types.is_timestamp(table.schema.field(AS_OF).type) or table[AS_OF].null_count:
        raise FootpathError(f"{path}: column {AS_OF} is no instant: write head_features anew")
    return {
        int(at.timestamp()): table.filter(pc.equal(table[AS_OF], pa.scalar(at, table[AS_OF].type)))
        for at in pc.unique(table[AS_OF]).to_pylist()
    } or {0: table}


def _of_users(
    path: Path, table: pa.Table, names: tuple[str, ...], users: pa.Array
) -> tuple[np.ndarray, bool]:
    """The rows in the order of the users [U, F], NaN of those without one; is any of them known?

    Raises:
      FootpathError: a user is named twice, or a value is infinite.
    """
    ids = table[KEY].cast(pa.string()).combine_chunks()
    if pc.count_distinct(ids).as_py() < table.num_rows:
        raise FootpathError(f"{path} names a user twice: write head_features anew")
    columns = [table[name].cast(pa.float64()).to_numpy() for name in names]
    known_NF = np.stack(columns, axis=1)  # a null has become NaN
    if np.isinf(known_NF).any():
        bad = names[int(np.argmax(np.isinf(known_NF).any(axis=0)))]
        raise FootpathError(f"{path}: column {bad} holds an infinite value: mend that feature")
    places = pc.index_in(users, ids).fill_null(-1).to_numpy()
    x_UF = np.full((len(places), len(names)), np.nan)
    x_UF[places >= 0] = known_NF[places[places >= 0]]
    return x_UF, bool((places >= 0).any())


def fit_joint(train: Blocks, valid: Blocks, classes: int) -> JointHead:
    """Fits a head on both blocks, penalty and weights chosen by users it was not fitted on.

    Args:
      train: standardized embeddings [n, D], standardized features [n, F], targets [n].
      valid: the same of the validation users.
      classes: how many there are; 0 for a number.
    """
    found = [_fitted(train, valid, weights, classes) for weights in WEIGHTS]
    alone = found[0]
    best = min(found, key=lambda each: float(each.losses_n.mean()))
    if best is not alone:
        gain_n = alone.losses_n - best.losses_n
        gain_m = _left_out_losses(train, alone, classes) - _left_out_losses(train, best, classes)
        gain = torch.cat([gain_n, gain_m])
        if float(gain.mean()) <= SURE * float(gain.std(correction=0)) / len(gain) ** 0.5:
            best = alone
    dim = train[0].shape[1]
    factor = torch.ones(best.linear.weight_CD.shape[1])
    factor[:dim], factor[dim:] = best.weights
    return JointHead(Linear(best.linear.weight_CD * factor, best.linear.bias_C), best.weights)


@dataclass(frozen=True)
class _Fitted:
    """The best head of a pair of weights."""

    weights: tuple[float, float]
    linear: Linear
    penalty: float
    losses_n: Tensor  # of the validation users


def _fitted(train: Blocks, valid: Blocks, weights: tuple[float, float], classes: int) -> _Fitted:
    x_valid = _joined(valid, weights)
    heads = head_path(_joined(train, weights), train[2], classes)
    linear, nth = best_head(heads, x_valid, valid[2])
    return _Fitted(weights, linear, PENALTIES[nth], example_losses(linear(x_valid), valid[2]))


def _left_out_losses(train: Blocks, fitted: _Fitted, classes: int) -> Tensor:
    """The loss of each training user by a head that was fitted without them."""
    x_nD, y_n = _joined(train, fitted.weights), train[2]
    fold_n = torch.arange(len(y_n)) % FOLDS  # in turn: neighbors may be alike
    losses_n = torch.zeros(len(y_n), dtype=fitted.losses_n.dtype)
    for fold in range(FOLDS if len(y_n) >= FOLDS else 0):
        out = fold_n == fold
        (head,) = head_path(x_nD[~out], y_n[~out], classes, (fitted.penalty,))
        losses_n[out] = example_losses(head(x_nD[out].double()), y_n[out]).to(losses_n.dtype)
    return losses_n


def _joined(blocks: Blocks, weights: tuple[float, float]) -> Tensor:
    embedding, features = (block * weight for block, weight in zip(blocks, weights, strict=False))
    return torch.cat([embedding, features], dim=1)


def _skewness(x_nF: np.ndarray) -> np.ndarray:
    """The third standardized moment of each column, 0 where it does not vary."""
    counts = np.maximum((~np.isnan(x_nF)).sum(axis=0), 1)
    centered = x_nF - np.nansum(x_nF, axis=0) / counts
    variance = np.nansum(np.square(centered), axis=0) / counts
    third = np.nansum(centered**3, axis=0) / counts
    return np.where(variance > 1e-12, third / np.maximum(variance, 1e-12) ** 1.5, 0.0)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
