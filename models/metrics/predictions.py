"""What a model said of every validation and test example: kept beside the metrics, to compare.

Two models on the same users are told apart far better user by user than by their averages, and what
one adds to another can be measured without training either again.

Of classes the scores are probabilities, of numbers the prediction, of rankings the first place that
the right item can have (from 1) and with how many others it is tied: see models.metrics.rank.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.base.errors import FootpathError
from contracts.config.metrics import Kind
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table

if TYPE_CHECKING:  # whoever reads predictions needs no torch
    from torch import Tensor

    from models.data.labels import Task

RUN = ("method", "encoder", "protocol", "inputs", "task", "label_share", "seed")
PROFILE = "profile"  # inputs of a stack of all that is known of a user: models.probing.profile
MAPPED = 1000  # users of a map

# One row a run and split; `scores` is [n, width], row after row.
PREDICTIONS = pa.schema(
    [
        *[pa.field(name, pa.string(), nullable=False) for name in RUN[:5]],
        pa.field("label_share", pa.float64(), nullable=False),
        pa.field("seed", pa.int32(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),  # valid or test
        pa.field("users", pa.list_(pa.int32()), nullable=False),  # rows of the sequences
        pa.field("y", pa.list_(pa.float64()), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("scores", pa.list_(pa.float32()), nullable=False),
    ]
)


@dataclass(frozen=True)
class Predicted:
    """The examples of one split and what was predicted of them."""

    kind: Kind
    users_n: np.ndarray
    y_n: np.ndarray
    scores_nC: np.ndarray

    def pick(self, which_n: np.ndarray) -> "Predicted":
        """Some of the examples."""
        return Predicted(
            self.kind, self.users_n[which_n], self.y_n[which_n], self.scores_nC[which_n]
        )


class Recorder:
    """Collects what a program's runs predict, where somebody asked for it."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows: list[dict] = []

    def add(self, run: dict[str, Any], parts: dict[str, Predicted]) -> None:
        """Keeps one run's validation and test predictions; `run` holds the columns of RUN."""
        if self._path:
            self._rows += as_rows(run, parts)

    def publish(self) -> None:
        """Writes what was collected, in one step."""
        if self._path:
            publish_table(Lake(self._path.parent), predictions_table(self._rows), self._path)


def keep_vectors(path: Path, x_nD: "Tensor", task: "Task") -> None:
    """Writes the first test users' vectors and labels, for a map of them; of classes only."""
    if task.is_classification:
        shown = slice(0, MAPPED)
        labels = [task.classes[y] for y in task.splits["test"].y_n[shown]]
        vectors = pa.array(list(x_nD[shown].numpy()), pa.list_(pa.float32()))
        table = pa.table({"task": [task.name] * len(labels), "label": labels, "vector": vectors})
        publish_table(Lake(path.parent), table, path)


def as_rows(run: dict[str, Any], parts: dict[str, Predicted]) -> list[dict]:
    """The rows of one run, a row a split."""
    return [
        {name: run[name] for name in RUN}
        | {
            "kind": part.kind,
            "split": split,
            "users": part.users_n.astype(np.int32),
            "y": part.y_n.astype(np.float64),
            "width": part.scores_nC.shape[1],
            "scores": part.scores_nC.astype(np.float32).ravel(),
        }
        for split, part in parts.items()
    ]


def predictions_table(rows: list[dict]) -> pa.Table:
    """Rows as a table of schema PREDICTIONS."""
    columns = {field.name: [row[field.name] for row in rows] for field in PREDICTIONS}
    return pa.table(columns, schema=PREDICTIONS)


def read_predictions(
    paths: Iterable[Path], only: pc.Expression | None = None
) -> dict[tuple, dict[str, Predicted]]:
    """Reads files of predictions -> run (as RUN) -> split -> what was predicted.

    Args:
      paths: of the files.
      only: which of their rows.

    Raises:
      FootpathError: a file is not one.
    """
    found: dict[tuple, dict[str, Predicted]] = {}
    for path in paths:
        try:
            rows = pq.read_table(path, filters=only).cast(PREDICTIONS).to_batches()
        except (OSError, pa.ArrowInvalid, ValueError) as error:
            raise FootpathError(f"{path} is not a table of predictions ({error})") from None
        for batch in rows:
            for at in range(batch.num_rows):
                row = {name: batch.column(name)[at] for name in batch.schema.names}
                run = tuple(row[name].as_py() for name in RUN)
                found.setdefault(run, {})[row["split"].as_py()] = Predicted(
                    row["kind"].as_py(),
                    row["users"].values.to_numpy(),
                    row["y"].values.to_numpy(),
                    row["scores"].values.to_numpy().reshape(-1, row["width"].as_py()),
                )
    return found
