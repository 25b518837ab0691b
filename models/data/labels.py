"""Labels of examples: read, checked, and cut into label shares.

The split is by user and made where the labels are made. Nothing a model may see goes past a label's
as-of: each example is cut there, and neither the vocabulary nor the checkpoint saw anything later.
Training users may be labeled at days before the as-of as well (`snapshots`): vocabulary and
checkpoint saw what came after those days, which is over by the as-of that others are judged at.
"""

import dataclasses
import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.base.errors import FootpathError
from contracts.lake.schemas import HOLDOUT, LABELS
from contracts.recipes.jobs import TaskSpec
from models.data.examples import Labeled, Lists, calendar
from models.data.packed import UNK
from models.data.rng import Draw
from models.data.sequences import Sequences

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Task:
    """One thing to predict, and the examples it is known of."""

    name: str
    metric: str
    classes: list[str]  # names, by class index; empty for a number or a ranking
    splits: dict[str, Labeled]
    is_ranking: bool = False  # y is the item that came next
    exclude_history: bool = False
    lists: dict[str, Lists] = field(default_factory=dict)  # candidates, by split
    left_out: int = 0  # examples without an event before their as-of
    label_end: str = ""  # ISO 8601, UTC: the latest instant that a label looks at

    def newest(self) -> "Task":
        """The same without examples of days before the as-of."""
        train = {"train": self.splits["train"].newest()}
        return dataclasses.replace(self, splits=self.splits | train)

    @property
    def is_classification(self) -> bool:
        """Tells classes from numbers and items."""
        return bool(self.classes)

    def share_index(self, share: float, seed: int) -> np.ndarray:
        """Which training examples make up a share of them, of each class alike.

        A larger share of the same seed holds the smaller one. Examples of one user go together. Of
        those of several days, the newest are shared out, as if they were alone, and those of days
        before go with them.
        """
        train = self.splits["train"]
        newest = np.flatnonzero(train.is_newest_n)
        chance = Draw(seed, 0, train.users_n).uniform("label share", 1)[:, 0]
        groups = train.y_n if self.is_classification else np.zeros(len(train.y_n))
        kept = []
        for group in np.unique(groups[newest]):
            members = newest[groups[newest] == group]
            order = members[np.argsort(chance[members], kind="stable")]
            kept.append(order[: max(1, round(share * len(order)))])
        chosen = np.sort(np.concatenate(kept))
        if train.weights_n is None:
            return chosen
        return np.flatnonzero(np.isin(train.users_n, train.users_n[chosen]))

    def train_share(self, share: float, seed: int) -> Labeled:
        """A share of the training examples."""
        return self.splits["train"].pick(self.share_index(share, seed))


@dataclass(frozen=True)
class Model:
    """What a checkpoint has seen."""

    cutoff: str  # ISO 8601, UTC: where its events ended
    fingerprint: str  # of the sequences that it was trained on


def load_tasks(
    path: Path,
    sequences: Sequences,
    tasks: tuple[TaskSpec, ...],
    model: Model | None = None,
) -> list[Task]:
    """Reads the labels of some tasks.

    Args:
      path: Parquet of schema LABELS.
      sequences: the input; its users are who can be labeled.
      tasks: which to read.
      model: what the checkpoint has seen that is to be measured.

    Raises:
      FootpathError: the file is unreadable, a label is missing, not a number, of an unknown user,
        twice there or older than what the input's vocabulary or the checkpoint has seen, or a task
        cannot be learnt from what is there.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise FootpathError(f"{path} cannot be read as Parquet: {error}") from None
    if missing := {f.name for f in LABELS} - set(table.column_names):
        raise FootpathError(f"{path}: columns {sorted(missing)} are missing: rebuild labels")
    table = _as_labels(path, table)
    if table.num_rows:
        _check_seen(path, table, sequences, model)
    known = pa.array(sequences.user_ids(), pa.string())
    return [_task(f"{path}: task '{task.name}'", table, sequences, known, task) for task in tasks]


def _as_labels(path: Path, table: pa.Table) -> pa.Table:
    """The columns in the types of LABELS."""
    columns = {}
    for wanted in LABELS:
        column = table[wanted.name]
        try:
            columns[wanted.name] = column.cast(wanted.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise FootpathError(
                f"{path}: column '{wanted.name}' is {column.type}, and it does not all read as "
                f"{wanted.type}: rebuild labels"
            ) from None
    return pa.table(columns).replace_schema_metadata(table.schema.metadata)


def _check_seen(path: Path, table: pa.Table, sequences: Sequences, model: Model | None) -> None:
    held_out = int((table.schema.metadata or {}).get(HOLDOUT, b"0"))
    if held_out:
        # What is held out lies before the sequences' cutoff: what counts is that it is not there.
        if sequences.pointer.get("holdout", 0) != held_out:
            raise FootpathError(
                f"{path} labels each user by their last {held_out} events, and {sequences.path} "
                f"does not leave just these out: build the sequences with holdout={held_out}"
            )
        if model and model.fingerprint != sequences.pointer["fingerprint"]:
            raise FootpathError(
                f"{path} labels each user by their last {held_out} events, and the checkpoint was "
                f"trained on other sequences than {sequences.path}: train it on these"
            )
        return
    # A frozen vocabulary is as old as the checkpoint that it comes from.
    if not sequences.pointer.get("is_frozen", False):
        _check_cutoff(path, table, sequences.pointer["train_cutoff"], str(sequences.path))
    if model:
        _check_cutoff(path, table, model.cutoff, "the checkpoint")


def _check_cutoff(path: Path, table: pa.Table, cutoff: str, what: str) -> None:
    is_train = pc.equal(table["split"], "train")
    judged_from = pc.min(table.filter(pc.invert(is_train))["as_of"])
    if judged_from.is_valid:  # what is over by then tells nothing of who is judged
        is_over = pc.and_(is_train, pc.less_equal(table["label_end"], judged_from))
        table = table.filter(pc.invert(is_over))
    as_of = pc.min(table["as_of"]).as_py()
    if dt.datetime.fromisoformat(cutoff) > as_of:
        raise FootpathError(
            f"{path}: labels are as of {as_of.isoformat()}, and {what} saw events until {cutoff}: "
            f"use labels and inputs of the same as-of"
        )


def _task(
    where: str, table: pa.Table, sequences: Sequences, known: pa.Array, task: TaskSpec
) -> Task:
    table = table.filter(pc.field("task") == task.name)
    if table.num_rows == 0:
        raise FootpathError(f"{where} has no labels there")
    ids, value = table["user_id"].cast(pa.string()), table["value"].to_numpy()
    users = pc.index_in(ids, known).fill_null(-1).to_numpy().astype(np.int64)
    if (users < 0).any():
        raise FootpathError(
            f"{where} labels {np.count_nonzero(users < 0)} users who have no events in "
            f"{sequences.path}, such as '{ids[int(np.argmin(users))]}': "
            f"build both as of the same day"
        )
    if not np.isfinite(value).all():
        bad = ids[int(np.argmin(np.isfinite(value)))]
        raise FootpathError(f"{where}: the value of user '{bad}' is not a number: rebuild labels")
    as_of = _seconds(table["as_of"])
    order = np.lexsort((as_of, users))  # stable: candidates stay in their order
    is_first = np.ones(len(order), bool)
    is_first[1:] = (np.diff(users[order]) != 0) | (np.diff(as_of[order]) != 0)
    first = order[is_first]  # the first row of each example
    if not task.candidates and len(first) < len(users):
        raise FootpathError(f"{where} labels a user twice as of the same instant: rebuild labels")
    classes = _classes(where, table, value) if task.kind == "classification" else []
    lists = None
    if task.candidates:
        lengths = np.diff(np.append(np.flatnonzero(is_first), len(order)))
        lists = _lists(where, table.take(pa.array(order)), lengths, sequences, task)
        y = np.zeros(len(first), np.int64)
    elif task.kind == "ranking":
        y = _item_ids(table["label"], sequences)[first]
    else:
        y = value[first].astype(np.int64) if classes else value[first]
    split = table["split"].take(pa.array(first))
    is_train = pc.equal(split, "train").to_numpy()
    now_n, weights_n = calendar(as_of[first], _seconds(table["label_end"])[first], is_train)
    examples = Labeled(
        users_n=users[first],
        ends_n=sequences.events_before(users[first], as_of[first]),
        y_n=y,
        starts_n=sequences.events_before(users[first], _begin(table["since"])[first]),
        now_n=now_n,
        weights_n=weights_n,
    )
    found = _split(where, task, split, examples, classes, lists)
    return dataclasses.replace(found, label_end=pc.max(table["label_end"]).as_py().isoformat())


def _begin(since: pa.ChunkedArray) -> np.ndarray:
    """Returns unix seconds; long before any event where a history is seen from its beginning."""
    return _seconds(since.fill_null(dt.datetime(1, 1, 1, tzinfo=dt.UTC)))


def _seconds(instants: pa.ChunkedArray) -> np.ndarray:
    """Returns whole unix seconds, rounded down."""
    return instants.cast(pa.int64()).to_numpy() // 1_000_000


def _item_ids(names: pa.ChunkedArray, sequences: Sequences) -> np.ndarray:
    """The vocabulary's ids; [UNK] for items that are not in it."""
    words = pa.array(sequences.vocabulary["item"], pa.string())
    found = pc.index_in(names, words).fill_null(UNK).to_numpy()
    return np.maximum(found, UNK).astype(np.int64)


def _lists(
    where: str, table: pa.Table, lengths: np.ndarray, sequences: Sequences, task: TaskSpec
) -> Lists:
    """The candidates of each example; the table's rows are in that order."""
    known, numbers = len(task.numbers), table["numbers"]
    if pc.any(pc.not_equal(pc.list_value_length(numbers).fill_null(0), known)).as_py():
        raise FootpathError(
            f"{where} must have {known} numbers for each candidate ({', '.join(task.numbers)}): "
            f"rebuild labels"
        )
    return Lists(
        item_M=_item_ids(table["label"], sequences),
        is_relevant_M=table["value"].to_numpy() > 0,
        numbers_MK=pc.list_flatten(numbers).to_numpy().reshape(len(numbers), known),
        lengths_n=lengths,
    )


def _split(
    where: str,
    task: TaskSpec,
    split: pa.ChunkedArray,
    examples: Labeled,
    classes: list[str],
    lists: Lists | None,
) -> Task:
    """Deals the examples to the splits; those of which nothing is seen are left out."""
    seen = examples.lengths_n > 0
    members = {name: np.flatnonzero(pc.equal(split, name).to_numpy() & seen) for name in SPLITS}
    splits = {name: examples.pick(at) for name, at in members.items()}
    for name, labeled in splits.items():
        _check_split(where, name, labeled, classes)
    return Task(
        name=task.name,
        metric=task.metric,
        classes=classes,
        splits=splits,
        is_ranking=task.kind == "ranking",
        exclude_history=task.exclude_history,
        lists={name: lists.pick(at) for name, at in members.items()} if lists else {},
        left_out=int(np.count_nonzero(~seen)),
    )


def _check_split(where: str, name: str, labeled: Labeled, classes: list[str]) -> None:
    count, found = len(labeled.y_n), np.unique(labeled.y_n)
    if count == 0:
        raise FootpathError(
            f"{where} has no users in the {name} split who have events before their as-of: "
            f"it needs more users"
        )
    if classes and len(found) < 2 and name != "valid":
        raise FootpathError(
            f"{where} has one class only, '{classes[found[0]]}', among the {count} users of the "
            f"{name} split: it needs more users, or a label that divides them"
        )


def _classes(where: str, table: pa.Table, y: np.ndarray) -> list[str]:
    if (y < 0).any() or (y != np.floor(y)).any():
        raise FootpathError(f"{where} has a value that is no class index: rebuild labels")
    values, first = np.unique(y.astype(np.int64), return_index=True)
    names = dict(zip(values.tolist(), table["label"].take(first).to_pylist(), strict=True))
    return [str(names.get(index, index)) for index in range(values[-1] + 1)]
