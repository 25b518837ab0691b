"""A board as a table: in Markdown for the docs and the UI, in HTML for the page."""

import html
import math
from collections.abc import Mapping

import pyarrow as pa

from models.leaderboard.boards import Board, Cells, Marks, Metric, Who, boards

LEGEND = (
    "Means over seeds, ± the standard deviation where there are several; the best of each column "
    "is bold. R: against the same encoder with random weights and the same inputs, S: against it "
    "trained from scratch, T: against TF-IDF with logistic regression; + better, - worse, at the "
    "5% level."
)
Remarks = Mapping[str, str]  # by task: a sentence that stands above its table


def to_markdown(table: pa.Table, marks: Marks | None = None, remarks: Remarks | None = None) -> str:
    """Renders one table a task; the best of each label share is bold."""
    parts = []
    for board in boards(table, marks):
        remark = (remarks or {}).get(board.task, "")
        below = repeated(board) if board.repeats else ""
        said = [f"### {board.title}", remark, markdown(board), below]
        parts.append("\n\n".join(part for part in said if part))
    return "\n\n".join(parts) + "\n"


def markdown(board: Board) -> str:
    """Renders a board as a Markdown table."""
    heads = _heads(board)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(_cells(board, who, "**{}**")) + " |" for who, _ in board.rows]
    return "\n".join(lines)


def repeated(board: Board) -> str:
    """The sentence that stands below a table whose features add nothing to some rows."""
    names = [" ".join(part for part in who if part != "-") for who in board.repeats]
    return f"The features add nothing to these, which are shown without: {', '.join(names)}."


def as_html(board: Board, remark: str = "") -> str:
    """Renders a board as an HTML table under its title and a remark."""
    lines = [[f"<th>{head}</th>" for head in _heads(board)]]
    lines += [[f"<td>{c}</td>" for c in _cells(board, who, "<b>{}</b>")] for who, _ in board.rows]
    body = "".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    below = f"<p>{html.escape(repeated(board))}</p>" if board.repeats else ""
    above = f"<p>{html.escape(remark)}</p>" if remark else ""
    return f"<h2>{html.escape(board.title)}</h2>{above}<table>{body}</table>{below}"


def _columns(board: Board) -> list[tuple[Metric, float, dict[Who, Cells]]]:
    """Metric, label share and figures of each column: the second metric is right of the first."""
    shown = [(board.metric, dict(board.rows))]
    if board.beside:
        kept = {who: board.beside.cells.get(who, {}) for who, _ in board.rows}
        shown.append((board.beside.metric, kept))
    return [(metric, share, cells) for metric, cells in shown for share in board.shares]


def _heads(board: Board) -> list[str]:
    named = [
        f"{metric.name}, {share:.0%} labels" if board.beside else f"{share:.0%} labels"
        for metric, share, _ in _columns(board)
    ]
    return [*Who._fields, *named]


def _cells(board: Board, who: Who, bold: str) -> list[str]:
    shown = [html.escape(part) for part in who]
    for metric, share, cells in _columns(board):
        best = max if metric.larger_is_better else min
        leader = best((c[share].mean for c in cells.values() if share in c), default=math.nan)
        found = cells[who].get(share)
        text = str(found) if found else ""
        is_best = found is not None and found.mean == leader
        shown.append(bold.format(text) if is_best else text)
    return shown
