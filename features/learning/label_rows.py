"""Answers of one task -> rows of the schema LABELS, and their publication.

In: a temporary table `answers` (user_id, since, as_of, label_end, label), or `shown` for the
candidates of a ranking. Out: the rows in the order of users and instants.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.config.tasks import Task
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from contracts.lake.schemas import HOLDOUT, LABELS


@dataclass(frozen=True)
class Split:
    """How users are dealt to train, valid and test: by a hash of the user id, nothing else.

    It is alike in every task and as-of, and no user's split depends on who else is there. Without
    folds it is 80/10/10: seed 0 is the split of all published labels, and `footpath compare` deals
    anew with each seed. With K folds, seeds 0 to K - 1 are the folds of one cross-validation, whose
    test users are disjoint and together all users; the next K seeds are those of another. A ninth
    of the users outside of a fold, each fold its own, are its validation users.
    """

    seed: int = 0
    folds: int = 0  # 0: none, 80/10/10

    @property
    def sql(self) -> str:
        """The SQL that deals a user_id: train, valid or test."""
        if self.folds:
            again, fold = divmod(self.seed, self.folds)
            hashed = f"md5_number_lower('folds {again:d}: ' || user_id)"
            return (
                f"CASE WHEN {hashed} % {self.folds:d} = {fold:d} THEN 'test' "
                f"WHEN ({hashed} // {self.folds:d}) % 9 = {fold % 9:d} THEN 'valid' "
                "ELSE 'train' END"
            )
        salt = f"'split {self.seed:d}: ' || " if self.seed else ""
        return (
            f"CASE md5_number_lower({salt}user_id) % 10 "
            "WHEN 9 THEN 'test' WHEN 8 THEN 'valid' ELSE 'train' END"
        )

    @property
    def name(self) -> str:
        """What files of it are called."""
        return f"{self.seed}of{self.folds}" if self.folds else str(self.seed)


PUBLISHED = Split()  # of the tables of labels


@dataclass(frozen=True)
class LabelsReport:
    """What was published."""

    path: Path
    rows: int
    users: int  # who could have been labeled
    tasks: dict[str, int]  # labeled examples as of the day, or candidates
    snapshots: dict[str, int]  # earlier days that training users are labeled at, where asked for
    classes: dict[str, dict[str, int]]  # of classification tasks, with their examples
    warnings: list[str]  # tasks that were left out, and why


def publish_labels(
    dataset: Dataset,
    lake: Lake,
    path: Path,
    tasks: list[Task],
    rows_of: Callable[[Task], pa.Table],
    users: int,
    earlier_of: Callable[[Task, pa.Table], pa.Table] | None = None,
) -> LabelsReport:
    """Publishes the rows of all tasks that can be learnt.

    Args:
      dataset: whose tasks.
      lake: of its events.
      path: where they go.
      tasks: of one source of examples.
      rows_of: makes the rows of a task.
      users: who could have been labeled.
      earlier_of: makes those of earlier days, where a task has `snapshots`, right after its rows.

    Raises:
      FootpathError: none of them can.
    """
    parts, counted, snapshots, classes, warnings = [], {}, {}, {}, []
    for task in tasks:
        rows = rows_of(task)
        counts = Counter(rows["label"].to_pylist()) if task.kind == "classification" else {}
        if rows.num_rows == 0:
            warnings.append(f"task {task.name} has no labeled user in {path.stem}: left out")
        elif len(counts) == 1:
            (only,) = counts
            warnings.append(f"task {task.name} has the one class '{only}' in {path.stem}: left out")
        else:
            counted[task.name] = rows.num_rows
            classes[task.name] = dict(sorted(counts.items()))
            if task.snapshots and earlier_of:
                earlier = earlier_of(task, rows)
                snapshots[task.name] = days = len(pc.unique(earlier["as_of"]))
                if days < task.snapshots:
                    warnings.append(
                        f"task {task.name} asks for {task.snapshots} snapshots, and {days} are "
                        f"used in {path.stem}: none is before the first published day"
                    )
                order = [("user_id", "ascending"), ("as_of", "ascending")]
                rows = pa.concat_tables([rows, earlier]).sort_by(order)
            parts.append(rows)
    if not parts:
        raise FootpathError(
            f"data set '{dataset.name}' has nothing to learn: {'; '.join(warnings)}"
        )
    table = pa.concat_tables(parts).replace_schema_metadata(
        {HOLDOUT: str(tasks[0].holdout or 0).encode()}
    )
    publish_table(lake, table, path)
    return LabelsReport(path, table.num_rows, users, counted, snapshots, classes, warnings)


def label_rows(
    connection: duckdb.DuckDBPyConnection, task: Task, split: Split = PUBLISHED
) -> pa.Table:
    """The rows of a task from `answers`; a label that is null or no number is none."""
    value, label = _value_and_label(connection, task)
    rows = connection.sql(
        f"""
        WITH known AS (SELECT *, {split.sql} AS split FROM answers WHERE label IS NOT NULL),
             dealt AS ({_commonest(task)}),
             valued AS (SELECT *, ({value})::DOUBLE AS value, {label} AS named FROM dealt)
        SELECT user_id, since, as_of, label_end, $1 AS task, value, named AS label,
          NULL::DOUBLE[] AS numbers, split
        FROM valued WHERE isfinite(value) ORDER BY user_id, as_of
        """,
        params=[task.name],
    )
    return rows.to_arrow_table().cast(LABELS)


def _value_and_label(connection: duckdb.DuckDBPyConnection, task: Task) -> tuple[str, str]:
    """The SQL of both, over rows that have a `label` and a `split`."""
    if task.kind == "regression":
        return "TRY_CAST(label AS DOUBLE)", "NULL"
    if task.kind == "ranking":
        return "1", "label::VARCHAR"
    if task.above:
        middle = "(SELECT median(label) FROM dealt WHERE split = 'train')"
        return (
            f"(label > {middle})::INTEGER",
            f"CASE WHEN label > {middle} THEN 'yes' ELSE 'no' END",
        )
    kind = connection.execute("SELECT typeof(label) FROM answers LIMIT 1").fetchall()
    if kind and kind[0][0] == "BOOLEAN":
        return "label::INTEGER", "CASE WHEN label THEN 'yes' ELSE 'no' END"
    return "dense_rank() OVER (ORDER BY label::VARCHAR) - 1", "label::VARCHAR"


def _commonest(task: Task) -> str:
    """The SQL of `known` with rare classes made one."""
    if not task.classes:
        return "SELECT * FROM known"
    return f"""
        SELECT * REPLACE (CASE WHEN label::VARCHAR IN (
          SELECT label::VARCHAR FROM known WHERE split = 'train'
          GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT {task.classes}
        ) THEN label::VARCHAR ELSE 'other' END AS label) FROM known"""


def candidate_rows(
    connection: duckdb.DuckDBPyConnection, task: Task, split: Split = PUBLISHED
) -> pa.Table:
    """The rows of a task from `shown`, lists of which some were chosen and some not."""
    assert task.candidates
    numbers = ", ".join(f"TRY_CAST(({sql}) AS DOUBLE)" for sql in task.candidates.numbers.values())
    rows = connection.sql(
        f"""
        WITH rows AS (
          SELECT *, coalesce(({task.candidates.relevant})::BOOLEAN, false) AS is_relevant,
            [{numbers}]::DOUBLE[] AS numbers
          FROM shown WHERE item_id IS NOT NULL AND ({task.candidates.where})
        ), lists AS (
          SELECT *, bool_or(is_relevant) OVER list AND NOT bool_and(is_relevant) OVER list AS tells
          FROM rows WINDOW list AS (PARTITION BY user_id, second)
        )
        SELECT user_id, NULL::TIMESTAMPTZ AS since, to_timestamp(second) AS as_of,
          to_timestamp(second + 1) AS label_end, $1 AS task, is_relevant::DOUBLE AS value,
          item_id AS label, numbers, {split.sql} AS split
        FROM lists WHERE tells ORDER BY user_id, timestamp, sequence
        """,
        params=[task.name],
    )
    return rows.to_arrow_table().cast(LABELS)


def told(dataset: Dataset, task: Task, error: duckdb.Error) -> FootpathError:
    """The fault of a task whose SQL does not run."""
    said = task.sql or (task.candidates and task.candidates.where) or task.of or ""
    return FootpathError(
        f"task {task.name} of data set '{dataset.name}': `{said}` does not run over "
        f"events: {str(error).splitlines()[0]}"
    )
