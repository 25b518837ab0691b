"""Finished cells -> one table with significance, pictures, Markdown and a page.

    <folder>/<its name>.md, .html, .parquet, and a PNG a picture

A recipe is named in the column `method` as the file of recipes names it, so that two settings of
one method stay apart.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.base.errors import FootpathError
from contracts.config.comparison import Comparison, random_labels
from contracts.lake.copies import local_copy
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file
from contracts.lake.reading import read_table
from contracts.lake.schemas import METRICS
from models.experiments.pictures import draw
from models.experiments.planning import Plan
from models.leaderboard.boards import Who, boards, shown_metrics
from models.leaderboard.fusion import fused
from models.leaderboard.markdown import LEGEND, to_markdown
from models.leaderboard.noise import Noise, noise_of
from models.leaderboard.page import write_html
from models.leaderboard.significance import differences, marks
from models.metrics.predictions import RUN, Predicted, read_predictions


@dataclass(frozen=True)
class Results:
    """What the finished cells say."""

    table: pa.Table  # METRICS
    marks: dict[tuple[str, str, Who, float], str]
    notes: list[str]
    missing: int  # cells that are not measured
    noise: dict[str, Noise]  # by task: what its test users cannot tell apart
    folds: int = 0  # of the comparison

    @property
    def remarks(self) -> dict[str, str]:
        """The sentence above each task's table."""
        return {task: noise.sentence(self.folds) for task, noise in self.noise.items()}


def collect(plan: Plan, comparison: Comparison, notes: Iterable[str] = ()) -> Results:
    """Reads every finished cell, mixes with TF-IDF, and compares with the references.

    Raises:
      FootpathError: no cell is finished.
    """
    rows: list[dict] = []
    runs: dict[tuple, dict[str, Predicted]] = {}
    codes: Counter[str] = Counter()
    missing = 0
    for measured in plan.measured:
        for cell in measured.cells:
            if not cell.is_measured():
                missing += 1
                continue
            label = measured.recipe.label if measured.recipe else ""
            found = read_table(cell.path, METRICS.names).to_pylist()
            rows += [row | {"method": label or row["method"]} for row in found]
            for run, said in read_predictions([local_copy(cell.lake, cell.predictions)]).items():
                runs[(label or run[0], *run[1:])] = said
            codes[cell.code()] += 1
    if not rows:
        raise FootpathError("no cell of this comparison is measured: see what failed above")
    more_rows, more_runs = fused(rows, runs)
    table = pa.Table.from_pylist(rows + more_rows, schema=METRICS)
    found = differences(table, runs | more_runs, random_labels(comparison.recipes))
    noise = {}
    for board in boards(table):
        users = {
            int(user)
            for run, parts in runs.items()
            if run[RUN.index("task")] == board.task
            for user in parts["test"].users_n
        }
        if known := noise_of(board, found, len(users)):
            noise[board.task] = known
    said = [*notes, *_notes(comparison, codes, missing, table)]
    return Results(table, marks(found), said, missing, noise, comparison.folds)


def write(
    results: Results, plan: Plan, comparison: Comparison, lake: Lake, folder: Path
) -> dict[str, Path]:
    """Publishes the table, the pictures and the page in a folder; returns what lies where."""
    name = folder.name
    with lake.staging() as staging:
        pictures = draw(results.table, plan, comparison, staging, name)
        page, text = staging / f"{name}.html", staging / f"{name}.md"
        shown = (results.marks, results.notes, comparison.title)
        write_html(results.table, pictures, page, *shown, remarks=results.remarks)
        text.write_text(markdown(results, comparison), encoding="utf-8")
        pq.write_table(results.table, staging / f"{name}.parquet", compression="zstd")
        for staged in sorted(staging.iterdir()):
            publish_file(staged, folder / staged.name)
    return {suffix: folder / f"{name}.{suffix}" for suffix in ("md", "html", "parquet")}


def markdown(results: Results, comparison: Comparison) -> str:
    """Returns title, notes, tables."""
    notes = "\n\n".join([LEGEND, *results.notes])
    tables = to_markdown(results.table, results.marks, results.remarks)
    return f"## {comparison.title}\n\n{notes}\n\n{tables}"


def put_into(document: Path, name: str, text: str) -> None:
    """Replaces the part of a document between its two marks of that name; adds it at the end.

    The marks are `<!-- compare NAME -->` and `<!-- end of compare NAME -->`.
    """
    begin, end = f"<!-- compare {name} -->", f"<!-- end of compare {name} -->"
    part = f"{begin}\n{text.strip()}\n{end}"
    before = document.read_text(encoding="utf-8") if document.exists() else ""
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(before):
        after = pattern.sub(lambda _: part, before)
    else:
        after = f"{before.rstrip()}\n\n{part}\n" if before else f"{part}\n"
    document.write_text(after, encoding="utf-8")


def summary(results: Results) -> list[str]:
    """A line a task: the best row at the most labels; another where the test users are too few."""
    lines = []
    for board in boards(results.table, results.marks):
        who, cells = board.rows[0]
        named = " ".join(part for part in who if part != "-")
        share = max(cells)
        figures = f"{board.metric.name} {cells[share]}"
        if board.beside and share in (beside := board.beside.cells.get(who, {})):
            figures += f", {board.beside.metric.name} {beside[share]}"
        lines.append(f"{board.task}: {named}, {figures} at {share:.0%} labels")
        noise = results.noise.get(board.task)
        if noise and noise.is_too_few:
            lines.append(f"{board.task}: {noise.sentence(results.folds)}")
    return lines


def _seeds(comparison: Comparison) -> str:
    """What a seed is."""
    count, folds = len(comparison.seeds), comparison.folds
    if folds:
        times = f", {count // folds} times" if count > folds else ""
        return (
            f"{folds} folds{times}: each user is a test user of one fold{times}; a fold is a seed, "
            f"and has its own pre-training and its own choice of labels."
        )
    seeds = f"{count} seeds" if count > 1 else "One seed"
    return (
        f"{seeds}; each seed has its own split of the users (80/10/10), its own pre-training and "
        f"its own choice of labels."
    )


def _notes(comparison: Comparison, codes: Counter[str], missing: int, table: pa.Table) -> list[str]:
    notes = [f"{_seeds(comparison)} +items: mixed with TF-IDF by validation."]
    if len(codes) > 1:
        notes.append(
            f"The cells were measured by {len(codes)} versions of the code; --same-code measures "
            f"those of other code again."
        )
    if missing:
        notes.append(f"{missing} cells are not measured: run the same command to go on.")
    rows = table.to_pylist()
    for task in dict.fromkeys(row["task"] for row in rows):
        metric = shown_metrics(task, rows)[0]
        majority = table.filter(
            (pc.field("method") == "majority")
            & (pc.field("task") == task)
            & (pc.field("metric") == "accuracy")
        )
        if majority.num_rows and metric == "accuracy":
            mean = pc.mean(majority["value"]).as_py()
            notes.append(
                f"{task}: always saying the largest class is right {mean:.1%} of the time."
            )
    return notes
