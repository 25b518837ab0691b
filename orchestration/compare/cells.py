"""A cell is what is measured once: one encoder, task, label share, protocol and seed.

Its file is named by a hash of everything that its figures follow from: the full configuration of
pre-training and of fine-tuning, the fingerprints of sequences, labels and head features, the seed.
A cell whose file is there is not measured again. The code is not part of the name, so that a
comment does not cost a night; each file says by which code it was made, results made by several
are told, and `--same-code` measures those of other code again.

    <lake>/<data set>/compare/cells/<key>.parquet              METRICS rows; written last
                              cells/<key>.predictions.parquet  what was predicted of whom
                              models/<key>/                    checkpoints, within a budget
                              vectors/<key>.parquet            test users' vectors, for the map
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_files, hash_json
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from orchestration.instance import REPOSITORY

# In the footer of a cell: the code and the configuration that measured it.
CODE, RUN_BY = b"footpath.code", b"footpath.config"
CONFIG, WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Cell:
    """One measurement and where it lies."""

    key: str
    task: str
    share: float
    protocol: str
    folder: Path

    @property
    def path(self) -> Path:
        """The METRICS rows."""
        return self.folder / f"{self.key}.parquet"

    @property
    def predictions(self) -> Path:
        """What was predicted of whom."""
        return self.folder / f"{self.key}.predictions.parquet"

    def is_done(self) -> bool:
        """Tells whether the cell was measured: a file that cannot be read was not."""
        try:
            return self.predictions.exists() and bool(self.code())
        except (OSError, pa.ArrowInvalid):
            return False

    def code(self) -> str:
        """Returns by which code it was measured."""
        return (pq.read_schema(self.path).metadata or {}).get(CODE, b"").decode()


def key_of(*parts: Any) -> str:
    """Returns a hash of plain values, the same in whatever order their fields come."""
    return hash_json(parts)


def publish_cells(
    lake: Lake, cells: Iterable[Cell], metrics: Path, predictions: Path, config: dict[str, Any]
) -> None:
    """Deals what a program has measured to the cells, each visible only when it is whole.

    Raises:
      FootpathError: the program has not measured one of them.
    """
    rows, said = pq.read_table(metrics), pq.read_table(predictions)
    notes = {CODE: code_version().encode(), RUN_BY: json.dumps(config).encode()}
    for cell in cells:
        found = [_of(table, cell) for table in (rows, said)]
        # Not every method scores items by itself: such a cell is measured, and empty.
        if found[0].num_rows == 0 and cell.protocol != "native":
            raise FootpathError(
                f"{metrics} has no row of {cell.task}, {cell.protocol}, at {cell.share:.0%} of the "
                f"labels: the program does not measure that"
            )
        publish_table(lake, found[1], cell.predictions)
        publish_table(lake, found[0].replace_schema_metadata(notes), cell.path)


def _of(table: pa.Table, cell: Cell) -> pa.Table:
    is_here = pc.field("label_share") == cell.share
    for name in ("task", "protocol"):
        is_here &= pc.field(name) == getattr(cell, name)
    return table.filter(is_here)


def code_version() -> str:
    """Returns a hash of the code that figures follow from: models/, without the leaderboard."""
    root = REPOSITORY / "models"
    leaderboard = root / "leaderboard"
    return hash_files(root, (p for p in root.rglob("*.py") if leaderboard not in p.parents))


def has_weights(folder: Path) -> bool:
    """Tells whether a checkpoint is whole."""
    return (folder / CONFIG).exists() and (folder / WEIGHTS).exists()


def touch(model: Path) -> None:
    """Notes that a checkpoint was used just now."""
    if has_weights(model):
        os.utime(model / WEIGHTS)


def evict(models: Path, needed: set[Path], budget_bytes: float) -> list[Path]:
    """Removes the weights of the checkpoints used longest ago, until the rest fits the budget.

    Curves and figures stay. Whoever needs the weights again trains the same again.
    """
    weights = sorted(models.glob(f"*/{WEIGHTS}"), key=lambda path: path.stat().st_mtime)
    total, removed = sum(path.stat().st_size for path in weights), []
    for path in weights:
        if total <= budget_bytes:
            break
        if path.parent not in needed:
            total -= path.stat().st_size
            (path.parent / CONFIG).unlink(missing_ok=True)  # first: who sees it sees the weights
            path.unlink()
            removed.append(path.parent)
    return removed
