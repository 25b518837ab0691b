"""Everything that measuring a method on tasks needs, by source of their examples.

In: published events, sessions and tables. Out: for each source the sequences that pre-training may
see, the sequences that hold the examples' histories, in the same vocabulary, and the labels.
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from contracts.dataset import Dataset
from contracts.lake import Lake
from contracts.tasks import Task
from features.learning.examples import build_examples
from features.learning.labels import build_labels
from features.learning.rows import LabelsReport
from features.learning.sequences import build_sequences


@dataclass(frozen=True)
class TaskInputs:
    """The tasks of one source, and what they are measured on."""

    table: str  # day, later, or holdout<N>
    tasks: list[Task]  # those that can be learnt
    pretraining: Path  # pointer of the sequences that an encoder may be trained on
    sequences: Path  # pointer of the examples' histories
    labels: Path
    report: LabelsReport


def build_task_inputs(
    dataset: Dataset, lake: Lake, as_of: dt.date, names: list[str] | None = None
) -> list[TaskInputs]:
    """Publishes labels and sequences of some tasks; of all where no names are given.

    Raises:
      FootpathError: events are missing, a task's SQL fails, or a source has nothing to learn.
    """
    wanted = [task for task in dataset.tasks if names is None or task.name in names]
    return [
        _of_table(dataset, lake, as_of, table, [task for task in wanted if task.table == table])
        for table in dict.fromkeys(task.table for task in wanted)
    ]


def _of_table(
    dataset: Dataset, lake: Lake, as_of: dt.date, table: str, wanted: list[Task]
) -> TaskInputs:
    if table == "day":
        report = build_labels(dataset, lake, as_of)
        seen = histories = build_sequences(dataset, lake, as_of)
    else:
        report = build_examples(dataset, lake, as_of, table)
        seen = histories = build_sequences(dataset, lake, as_of, holdout=wanted[0].holdout or 0)
        if table == "later":
            # As of the last day, which all examples precede; each is cut at its own instant.
            last, words = lake.days("events")[-1], seen.folder / "vocabulary.json"
            histories = build_sequences(dataset, lake, last, words)
    tasks = [task for task in wanted if task.name in report.tasks]
    return TaskInputs(table, tasks, seen.pointer, histories.pointer, report.path, report)
