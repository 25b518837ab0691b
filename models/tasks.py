"""Labels of users: read, checked, and cut into label shares.

The split is by user and made where the labels are made. Nothing a model may see goes past a label's
as-of: neither the sequences nor what the checkpoint was trained on.
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.errors import FootpathError
from contracts.tables import LABELS
from models.config import TaskConfig
from models.data import Sequences
from models.draw import Draw

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Labelled:
    """Some users and what is known of them."""

    users_n: np.ndarray  # rows of the sequences
    y_n: np.ndarray  # class index (int64) or number (float64)


@dataclass(frozen=True)
class Task:
    """One thing to predict, and the users it is known of."""

    name: str
    metric: str
    classes: list[str]  # names, by class index; empty for a number
    splits: dict[str, Labelled]

    @property
    def is_classification(self) -> bool:
        """Tells classes from numbers."""
        return bool(self.classes)

    def train_share(self, share: float, seed: int) -> Labelled:
        """Returns a share of the training users, of each class alike.

        A larger share of the same seed holds the smaller one.
        """
        train = self.splits["train"]
        chance = Draw(seed, 0, train.users_n).uniform("label share", 1)[:, 0]
        groups = train.y_n if self.is_classification else np.zeros(len(train.y_n))
        kept = []
        for group in np.unique(groups):
            members = np.flatnonzero(groups == group)
            order = members[np.argsort(chance[members], kind="stable")]
            kept.append(order[: max(1, round(share * len(order)))])
        chosen = np.sort(np.concatenate(kept))
        return Labelled(train.users_n[chosen], train.y_n[chosen])


def load_tasks(
    path: Path,
    sequences: Sequences,
    tasks: tuple[TaskConfig, ...],
    model_cutoff: str | None = None,
) -> list[Task]:
    """Reads the labels of some tasks.

    Args:
      path: Parquet of schema LABELS.
      sequences: the input; its users are who can be labelled.
      tasks: which to read.
      model_cutoff: where the events ended that a checkpoint was trained on.

    Raises:
      FootpathError: the file is unreadable, a label is missing, not a number, of an unknown user,
        twice there or older than the input, or a task cannot be learnt from what is there.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise FootpathError(f"{path} cannot be read as Parquet: {error}") from None
    if missing := {f.name for f in LABELS} - set(table.column_names):
        raise FootpathError(f"{path}: columns {sorted(missing)} are missing: rebuild labels")
    if table.num_rows:
        _check_cutoff(path, table, sequences.pointer["train_cutoff"], str(sequences.path))
        _check_cutoff(path, table, model_cutoff, "the checkpoint")
    rows = {user: row for row, user in enumerate(sequences.user_ids())}
    return [_task(f"{path}: task '{task.name}'", table, sequences, rows, task) for task in tasks]


def _check_cutoff(path: Path, table: pa.Table, cutoff: str | None, what: str) -> None:
    as_of = pc.min(table["as_of"]).as_py()
    if cutoff and dt.datetime.fromisoformat(cutoff) > as_of:
        raise FootpathError(
            f"{path}: labels are as of {as_of.isoformat()}, and {what} saw events until {cutoff}: "
            f"use labels and inputs of the same as-of"
        )


def _task(
    where: str, table: pa.Table, sequences: Sequences, rows: dict[str, int], task: TaskConfig
) -> Task:
    table = table.filter(pc.field("task") == task.name)
    if table.num_rows == 0:
        raise FootpathError(f"{where} has no labels there")
    ids, y = table["user_id"].to_pylist(), table["value"].to_numpy()
    users = np.array([rows.get(user, -1) for user in ids])
    if (users < 0).any():
        raise FootpathError(
            f"{where} labels {np.count_nonzero(users < 0)} users who have no events in "
            f"{sequences.path}, such as '{ids[int(np.argmin(users))]}': "
            f"build both as of the same day"
        )
    if len(np.unique(users)) < len(users):
        raise FootpathError(f"{where} labels a user twice: rebuild labels")
    if not np.isfinite(y).all():
        bad = ids[int(np.argmin(np.isfinite(y)))]
        raise FootpathError(f"{where}: the value of user '{bad}' is not a number: rebuild labels")
    classes = _classes(where, table, y) if task.kind == "classification" else []
    y = y.astype(np.int64) if classes else y
    split = table["split"].to_numpy(zero_copy_only=False)
    members = {name: np.flatnonzero(split == name) for name in SPLITS}
    splits = {name: Labelled(users[at], y[at]) for name, at in members.items()}
    for name, labelled in splits.items():
        _check_split(where, name, labelled, classes)
    return Task(task.name, task.metric, classes, splits)


def _check_split(where: str, name: str, labelled: Labelled, classes: list[str]) -> None:
    count, found = len(labelled.y_n), np.unique(labelled.y_n)
    if count == 0:
        raise FootpathError(f"{where} has no users in the {name} split: it needs more users")
    if classes and len(found) < 2 and name != "valid":
        raise FootpathError(
            f"{where} has one class only, '{classes[found[0]]}', among the {count} users of the "
            f"{name} split: it needs more users, or a label that divides them"
        )


def _classes(where: str, table: pa.Table, y: np.ndarray) -> list[str]:
    if (y < 0).any() or (y != np.floor(y)).any():
        raise FootpathError(f"{where} has a value that is no class index: rebuild labels")
    names = {int(v): str(n) for v, n in zip(y, table["label"].to_pylist(), strict=True)}
    return [names.get(index, str(index)) for index in range(max(names) + 1)]
