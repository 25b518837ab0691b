"""A board as a table: in Markdown for the docs and the UI, in HTML for the page."""

import html
import math

import pyarrow as pa

from models.leaderboard.boards import Board, Cell, Marks, Who, boards

LEGEND = (
    "Means over seeds, ± the standard deviation where there are several; the best of each column "
    "is bold. S: against the same encoder trained from scratch with the same inputs, T: against "
    "TF-IDF with logistic regression; + better, - worse, at the 5% level."
)


def to_markdown(table: pa.Table, marks: Marks | None = None) -> str:
    """Renders one table a task; the best of each label share is bold."""
    parts = []
    for board in boards(table, marks):
        below = f"\n\n{repeated(board)}" if board.repeats else ""
        parts.append(f"### {board.title}\n\n{markdown(board)}{below}")
    return "\n\n".join(parts) + "\n"


def markdown(board: Board) -> str:
    """Renders a board as a Markdown table."""
    heads = _heads(board)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(_cells(board, row, "**{}**")) + " |" for row in board.rows]
    return "\n".join(lines)


def repeated(board: Board) -> str:
    """The sentence that stands below a table whose features add nothing to some rows."""
    names = [" ".join(part for part in who if part != "-") for who in board.repeats]
    return f"The features add nothing to these, which are shown without: {', '.join(names)}."


def as_html(board: Board) -> str:
    """Renders a board as an HTML table under its title."""
    lines = [[f"<th>{head}</th>" for head in _heads(board)]]
    lines += [[f"<td>{c}</td>" for c in _cells(board, row, "<b>{}</b>")] for row in board.rows]
    body = "".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    below = f"<p>{html.escape(repeated(board))}</p>" if board.repeats else ""
    return f"<h2>{html.escape(board.title)}</h2><table>{body}</table>{below}"


def _heads(board: Board) -> list[str]:
    return [*Who._fields, *[f"{share:.0%} labels" for share in board.shares]]


def _cells(board: Board, row: tuple[Who, dict[float, Cell]], bold: str) -> list[str]:
    who, cells = row
    best = max if board.metric.larger_is_better else min
    shown = [html.escape(part) for part in who]
    for share in board.shares:
        leader = best((c[share].mean for _, c in board.rows if share in c), default=math.nan)
        text = str(cells[share]) if share in cells else ""
        is_best = share in cells and cells[share].mean == leader
        shown.append(bold.format(text) if is_best else text)
    return shown
