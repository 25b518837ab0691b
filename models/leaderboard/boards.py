"""A board for each task: who, by label share, with mean and spread over seeds.

Comes in: METRICS files. The metric shown of a task is the first that the files name of it, which is
the one that the data set's YAML asks for. Of several classes, accuracy and AUC stand side by side.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.base.errors import FootpathError
from contracts.config.metrics import Metric, metric_beside, metric_of
from contracts.lake.schemas import METRICS


class Who(NamedTuple):
    """What a row of a board is of."""

    method: str
    encoder: str
    protocol: str
    inputs: str


@dataclass(frozen=True)
class Cell:
    """A metric over seeds; the spread is None where one seed was run."""

    mean: float
    spread: float | None
    marks: str = ""  # how it stands against the references, such as S+ T-
    seeds: str = ""  # how many it is of, where others of its table have more

    @property
    def figure(self) -> str:
        """Mean and spread as they are shown."""
        spread = "" if self.spread is None else f" ± {self.spread:.3f}"
        return f"{self.mean:.3f}{spread}" + (f" ({self.seeds})" if self.seeds else "")

    def __str__(self) -> str:
        return f"{self.figure} {self.marks}".strip()


Cells = dict[float, Cell]  # by label share


@dataclass(frozen=True)
class Beside:
    """A second metric of the same rows."""

    metric: Metric
    cells: dict[Who, Cells]


@dataclass(frozen=True)
class Board:
    """One task: its rows, best first, and those that were left out for they repeat others."""

    task: str
    metric: Metric
    shares: list[float]
    test_users: dict[int, int]  # by seed
    rows: list[tuple[Who, Cells]]
    repeats: list[Who] = field(default_factory=list)
    beside: Beside | None = None

    @property
    def title(self) -> str:
        """What stands above the table."""
        beside = f", {self.beside.metric.title} beside it" if self.beside else ""
        fewest, most = min(self.test_users.values()), max(self.test_users.values())
        users = f"{fewest} to {most}" if fewest < most else f"{most}"
        per_seed = " per seed" if len(self.test_users) > 1 else ""
        return f"{self.task} ({self.metric.title}{beside}, {users} test users{per_seed})"


# (task, metric, who, label share) -> marks
Marks = Mapping[tuple[str, str, Who, float], str]


def collect(paths: list[Path]) -> pa.Table:
    """Reads METRICS files as one table.

    Raises:
      FootpathError: there are none, or one of them is not of that schema.
    """
    if not paths:
        raise FootpathError("there are no metrics to compare: fine-tune a model first")
    parts = []
    for path in paths:
        try:
            parts.append(pq.read_table(path).select(METRICS.names).cast(METRICS))
        except (OSError, pa.ArrowInvalid, KeyError, ValueError) as error:
            raise FootpathError(f"{path} is not a table of metrics ({error})") from None
    return pa.concat_tables([part.replace_schema_metadata(None) for part in parts])


def boards(table: pa.Table, marks: Marks | None = None) -> list[Board]:
    """A board for each task, in the order of the files."""
    rows = table.to_pylist()
    tasks = dict.fromkeys(row["task"] for row in rows)
    found = [_board(task, rows, marks or {}) for task in tasks]
    return [board for board in found if board.rows]


def shown_metrics(task: str, rows: list[dict]) -> list[str]:
    """The metric that the data set's YAML asks for, the first of the task's, and that beside it."""
    measured = list(dict.fromkeys(row["metric"] for row in rows if row["task"] == task))
    beside = metric_beside(measured[0], measured)
    return [measured[0], beside] if beside else measured[:1]


def who_of(row: Mapping) -> Who:
    """What a METRICS row is of."""
    return Who(*(row[name] for name in Who._fields))


def _board(task: str, rows: list[dict], marks: Marks) -> Board:
    metric, *others = map(metric_of, shown_metrics(task, rows))
    rows = [row for row in rows if row["task"] == task]
    cells = _cells(task, metric, rows, marks)
    beside = [Beside(other, _cells(task, other, rows, marks)) for other in others]
    # Where the features add nothing, the heads left them out, and the row is there without them.
    shown = [cells, *(each.cells for each in beside)]
    repeats = [who for who in cells if all(_repeats(who, found) for found in shown)]
    cells = {who: found for who, found in cells.items() if who not in repeats}
    ordered = sorted(cells.items(), key=lambda item: -metric.sign * item[1][max(item[1])].mean)
    shares = sorted({row["label_share"] for row in rows})
    test_users = {row["seed"]: row["test_users"] for row in rows}
    return Board(
        task, metric, shares, test_users, ordered, sorted(repeats), beside[0] if beside else None
    )


def _cells(task: str, metric: Metric, rows: list[dict], marks: Marks) -> dict[Who, Cells]:
    """By row, the figures of one metric."""
    values: dict[Who, dict[float, list[float]]] = {}
    for row in rows:
        if row["metric"] == metric.name and row["value"] is not None:
            shares = values.setdefault(who_of(row), {})
            shares.setdefault(row["label_share"], []).append(row["value"])
    most = max((len(v) for found in values.values() for v in found.values()), default=0)
    return {
        who: {
            share: _cell(found, marks.get((task, metric.name, who, share), ""), most)
            for share, found in shares.items()
        }
        for who, shares in values.items()
    }


def _repeats(who: Who, cells: Mapping[Who, Cells]) -> bool:
    """Whether a row with features shows the same figures as the one without them."""
    plain = cells.get(who._replace(inputs=who.inputs.replace("+features", "")), {})
    return "+features" in who.inputs and plain == cells.get(who, {})


def _cell(values: list[float], marks: str, most: int) -> Cell:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    seeds = f"{len(values)} of {most} seeds" if len(values) < most else ""
    return Cell(float(np.mean(values)), spread, marks, seeds)
