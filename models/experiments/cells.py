"""A cell is what is measured once: one encoder, task, label share, protocol and seed.

Its files are named by a hash of all that its figures follow from: the resolved recipe and settings
of fine-tuning, the content of sequences, labels and head features, the seed. A cell whose file is
there is not measured again. The code is not part of the name, so that a comment does not cost a
night; each file has the code that made it, and results made by several versions say so.

    <lake>/<data set>/measurements/<key>.parquet               METRICS rows; written last
                                   <key>.predictions.parquet   what was predicted of whom
                                   vectors-<trial>/<task>.parquet   test users' vectors, for maps
                      evaluations/<version>.json               which cells are of a version
                      trials/<trial>/                          checkpoints, pre-trained ones
                             <key>/                            and a task's models, of a cell
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.base.errors import FootpathError
from contracts.config.comparison import NamedRecipe
from contracts.lake.copies import local_copy, send_copy
from contracts.lake.layout import Lake
from contracts.lake.publishing import (
    publish_folder,
    publish_json,
    publish_table,
    remove_files,
)
from contracts.lake.reading import Found, read_json, read_schema, tree
from contracts.lake.versions import CONFIG, WEIGHTS, all_versions, is_trained, trial_folder
from contracts.recipes.jobs import BaselinesJob, EvaluationJob, Protocol
from models.runtime.code import code_version

# In the footer of a cell: the code and the job that measured it.
CODE, MEASURED_BY = b"footpath.code", b"footpath.job"


@dataclass(frozen=True)
class Cell:
    """One measurement and where it lies."""

    lake: Lake
    key: str
    task: str
    share: float
    protocol: Protocol | str  # or baseline
    keeps_model: bool = False  # the task's model that is made here is kept, as trial `key`

    @property
    def path(self) -> Path:
        """The METRICS rows."""
        return self.lake.root / "measurements" / f"{self.key}.parquet"

    @property
    def predictions(self) -> Path:
        """What was predicted of whom."""
        return self.lake.root / "measurements" / f"{self.key}.predictions.parquet"

    def is_measured(self) -> bool:
        """Whether its figures are there: a file that is cut off was not written."""
        try:
            return self.predictions.exists() and bool(self.code())
        except (OSError, pa.ArrowInvalid):
            return False

    def is_done(self) -> bool:
        """Whether it is measured, and its model, where one is to be kept, is still there."""
        return self.is_measured() and (not self.keeps_model or is_trained(self.lake, self.key))

    def code(self) -> str:
        """The code that measured it."""
        return (read_schema(self.path).metadata or {}).get(CODE, b"").decode()


@dataclass(frozen=True)
class Measured:
    """Cells of one encoder (or of the baselines) and one task, done or not."""

    recipe: NamedRecipe | None
    task: str
    seed: int
    cells: list[Cell]
    trial: str = ""  # the encoder's; none of the baselines
    sequences: str = ""  # pointer of those that the examples are cut from

    @property
    def curves(self) -> Path:
        """Curves of the trial, where it has any."""
        return local_model(self.cells[0].lake, self.trial) / "curves.parquet"

    @property
    def vectors(self) -> Path:
        """Vectors of the test users, of the first seed."""
        return vectors_folder(self.cells[0].lake, self.trial) / f"{self.task}.parquet"


def vectors_folder(lake: Lake, trial: str) -> Path:
    """Where vectors of test users lie, a file a task."""
    return lake.work / "measurements" / f"vectors-{trial}"


def keep_measured(lake: Lake, name: str, measured: list[Measured]) -> None:
    """Keeps which cells are of a model version, or of the baselines.

    What they were measured on may be built anew, and the cells of then have other keys than those
    of now: what was promoted or shown goes on to be what was measured.
    """
    entries = [
        {
            "recipe": each.recipe.model_dump(mode="json") if each.recipe else None,
            "task": each.task,
            "seed": each.seed,
            "trial": each.trial,
            "sequences": each.sequences,
            "cells": [
                {name: getattr(cell, name) for name in ("key", "task", "share", "protocol",
                                                        "keeps_model")}
                for cell in each.cells
            ],
        }
        for each in measured
    ]  # fmt: skip
    publish_json(lake, {"format": 1, "measured": entries}, _evaluation(lake, name))


def read_measured(lake: Lake, name: str) -> list[Measured]:
    """Reads which cells are of a model version, or of the baselines; none where nothing is kept."""
    path = _evaluation(lake, name)
    if not path.exists():
        return []
    return [
        Measured(
            recipe=NamedRecipe.model_validate(entry["recipe"]) if entry["recipe"] else None,
            cells=[Cell(lake, **cell) for cell in entry["cells"]],
            **{name: entry[name] for name in ("task", "seed", "trial", "sequences")},
        )
        for entry in read_json(path)["measured"]
    ]


def _evaluation(lake: Lake, name: str) -> Path:
    return lake.root / "evaluations" / f"{name}.json"


def publish_cells(cells: Iterable[Cell], folder: Path, job: EvaluationJob | BaselinesJob) -> None:
    """Deals what a program has measured to the cells, each visible only when it is whole.

    Args:
      cells: that were to be measured.
      folder: where the program has written `metrics.parquet`, `predictions.parquet`, and task
        models below `models/<protocol>/`.
      job: what the program was given.

    Raises:
      FootpathError: the program has not measured one of them.
    """
    rows = pq.read_table(folder / "metrics.parquet")
    predictions = pq.read_table(folder / "predictions.parquet")
    notes = {CODE: code_version().encode(), MEASURED_BY: job.evaluation.model_dump_json().encode()}
    for cell in cells:
        found = [_of(table, cell) for table in (rows, predictions)]
        # Not every method scores items by itself: such a cell is measured, and empty.
        if found[0].num_rows == 0 and cell.protocol != "native":
            raise FootpathError(
                f"{folder} has no row of {cell.task}, {cell.protocol}, at {cell.share:.0%} of the "
                f"labels: the program does not measure that"
            )
        if cell.keeps_model:
            _publish_model(cell, folder / "models" / cell.protocol / cell.task)
        publish_table(cell.lake, found[1], cell.predictions)
        publish_table(cell.lake, found[0].replace_schema_metadata(notes), cell.path)


def _publish_model(cell: Cell, folder: Path) -> None:
    target = trial_folder(cell.lake, cell.key)
    publish_folder(folder, cell.lake.work / target.relative_to(cell.lake.root).as_posix())
    send_copy(cell.lake, target, CONFIG)


def _of(table: pa.Table, cell: Cell) -> pa.Table:
    is_here = pc.field("label_share") == cell.share
    for name in ("task", "protocol"):
        is_here &= pc.field(name) == getattr(cell, name)
    return table.filter(is_here)


def touch(lake: Lake, trial: str) -> None:
    """Notes that a checkpoint was used just now."""
    weights = lake.work / "trials" / trial / WEIGHTS
    if weights.exists():
        os.utime(weights)


def evict(lake: Lake, needed: set[str], budget_bytes: float) -> list[str]:
    """Removes the weights of the checkpoints used longest ago, until the rest fits the budget.

    Those that have the name of a version stay, and do not count: services, embeddings and
    leaderboards are built on names. Curves and figures stay too. Whoever needs removed weights
    again trains the same again.

    Args:
      lake: whose checkpoints.
      needed: trials that are still to be read.
      budget_bytes: of all checkpoints without a name.

    Returns:
      The trials whose weights were removed.
    """
    removed = list(evictable(lake, needed, budget_bytes))
    for trial in removed:
        here, copy = trial_folder(lake, trial), lake.work / "trials" / trial
        # First what says that it is whole: who sees it sees the weights.
        for name in (CONFIG, WEIGHTS):
            remove_files([here / name] if (here / name).exists() else [])
            (copy / name).unlink(missing_ok=True)
    return removed


def evictable(lake: Lake, needed: set[str], budget_bytes: float) -> dict[str, int]:
    """Trials whose weights `evict` removes, and the bytes of these."""
    named = {version.trial for version in all_versions(lake)}
    weights: dict[str, Found] = {}
    for root in dict.fromkeys((lake.root, lake.work)):
        for path, found in tree(root / "trials").items():
            trial, _, name = path.partition("/")
            if name == WEIGHTS and trial not in named:
                used = max(found.modified, weights.get(trial, found).modified)
                weights[trial] = Found(found.bytes, used)
    total, removed = sum(found.bytes for found in weights.values()), {}
    for trial, found in sorted(weights.items(), key=lambda each: each[1].modified):
        if total <= budget_bytes:
            break
        if trial not in needed:
            total -= found.bytes
            removed[trial] = found.bytes
    return removed


def local_model(lake: Lake, trial: str) -> Path:
    """A trial's checkpoint folder on a local disk."""
    return local_copy(lake, trial_folder(lake, trial))
