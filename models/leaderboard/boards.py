"""A board for each task: who, by label share, with mean and spread over seeds.

Comes in: METRICS files. The metric shown of a task is the first that the files name of it, which is
the one that the data set's YAML asks for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.base.errors import FootpathError
from contracts.config.metrics import Metric, metric_of
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


@dataclass(frozen=True)
class Board:
    """One task: its rows, best first, and those that were left out for they repeat others."""

    task: str
    metric: Metric
    shares: list[float]
    test_users: int
    rows: list[tuple[Who, dict[float, Cell]]]
    repeats: list[Who] = field(default_factory=list)

    @property
    def title(self) -> str:
        """What stands above the table."""
        return f"{self.task} ({self.metric.title}, {self.test_users} test users)"


# (task, who, label share) -> marks
Marks = Mapping[tuple[str, Who, float], str]


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
    return [_board(task, rows, marks or {}) for task in dict.fromkeys(row["task"] for row in rows)]


def headline_metric(task: str, rows: list[dict]) -> str:
    """The metric that the data set's YAML asks for: the first of the task's rows."""
    return next(row["metric"] for row in rows if row["task"] == task)


def who_of(row: Mapping) -> Who:
    """What a METRICS row is of."""
    return Who(*(row[name] for name in Who._fields))


def _board(task: str, rows: list[dict], marks: Marks) -> Board:
    metric = metric_of(headline_metric(task, rows))
    rows = [row for row in rows if (row["task"], row["metric"]) == (task, metric.name)]
    values: dict[Who, dict[float, list[float]]] = {}
    for row in rows:
        values.setdefault(who_of(row), {}).setdefault(row["label_share"], []).append(row["value"])
    most = max(len(v) for found in values.values() for v in found.values())
    cells = {
        who: {s: _cell(v, marks.get((task, who, s), ""), most) for s, v in found.items()}
        for who, found in values.items()
    }
    # Where the features add nothing, the heads left them out, and the row is there without them.
    repeats = [who for who in cells if _repeats(who, cells)]
    cells = {who: found for who, found in cells.items() if who not in repeats}
    ordered = sorted(cells.items(), key=lambda item: -metric.sign * item[1][max(item[1])].mean)
    shares = sorted({row["label_share"] for row in rows})
    test_users = max(row["test_users"] for row in rows)
    return Board(task, metric, shares, test_users, ordered, sorted(repeats))


def _repeats(who: Who, cells: Mapping[Who, dict[float, Cell]]) -> bool:
    """Whether a row with features shows the same figures as the one without them."""
    plain = cells.get(who._replace(inputs=who.inputs.replace("+features", "")), {})
    return "+features" in who.inputs and plain == cells[who]


def _cell(values: list[float], marks: str, most: int) -> Cell:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    seeds = f"{len(values)} of {most} seeds" if len(values) < most else ""
    return Cell(float(np.mean(values)), spread, marks, seeds)
