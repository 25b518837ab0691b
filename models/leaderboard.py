"""Which pre-training works on this data, for these tasks, with this few labels: table and plot.

Comes in: METRICS files. Goes out: method x encoder x protocol by task and label share, mean and
spread over seeds, as Markdown, a web page and a picture. The metric shown of a task is the first
that the files name of it, which is the one that the data set's YAML asks for.
"""

import base64
import html
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import FootpathError
from contracts.tables import METRICS

SMALLER_IS_BETTER = ("mae", "rmse")
# Okabe and Ito's palette, told apart by colour-blind readers; markers and dashes say it again.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True)
class Cell:
    """A metric over seeds; the spread is None where one seed was run."""

    mean: float
    spread: float | None

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.spread is None else f" ± {self.spread:.3f}")


@dataclass(frozen=True)
class Board:
    """One task: its rows, best first."""

    task: str
    metric: str
    shares: list[float]
    test_users: int
    rows: list[tuple[tuple[str, str, str], dict[float, Cell]]]  # (method, encoder, protocol)


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
    return pa.concat_tables(parts)


def boards(table: pa.Table) -> list[Board]:
    """Returns a board for each task, in the order of the files."""
    rows = table.to_pylist()
    return [_board(task, rows) for task in dict.fromkeys(row["task"] for row in rows)]


def to_markdown(table: pa.Table) -> str:
    """Renders one table a task; the best of each label share is bold."""
    parts = []
    for board in boards(table):
        heads = [
            "method",
            "encoder",
            "protocol",
            *[f"{share:.0%} labels" for share in board.shares],
        ]
        lines = [
            f"### {board.task} ({_metric_title(board)}, {board.test_users} test users)",
            "",
            "| " + " | ".join(heads) + " |",
            "|" + "---|" * len(heads),
        ]
        lines += ["| " + " | ".join(_cells(board, row, "**{}**")) + " |" for row in board.rows]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def write_html(table: pa.Table, image: Path, page: Path) -> None:
    """Writes the tables and the picture as one page that needs no other file."""
    sections = []
    for board in boards(table):
        lines = [[f"<th>{head}</th>" for head in _heads(board)]]
        lines += [[f"<td>{c}</td>" for c in _cells(board, row, "<b>{}</b>")] for row in board.rows]
        body = "".join(f"<tr>{''.join(line)}</tr>" for line in lines)
        sections.append(f"<h2>{html.escape(_title(board))}</h2><table>{body}</table>")
    picture = base64.b64encode(image.read_bytes()).decode()
    page.write_text(_PAGE.format(tables="".join(sections), picture=picture), encoding="utf-8")


def plot(table: pa.Table, path: Path) -> None:
    """Draws label efficiency: each task's metric against the share of labels, as a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    found = boards(table)
    styles = {key: n for n, key in enumerate(dict.fromkeys(k for b in found for k, _ in b.rows))}
    figure, axes = plt.subplots(
        1, len(found), figsize=(4.6 * len(found) + 2.4, 4.2), squeeze=False, layout="constrained"
    )
    for axis, board in zip(axes[0], found, strict=True):
        for key, cells in board.rows:
            _draw_line(axis, key, cells, styles[key])
        axis.set_xscale("log")
        axis.set_xticks(board.shares, [f"{share:.0%}" for share in board.shares])
        axis.minorticks_off()
        axis.set(title=board.task, xlabel="labelled training users", ylabel=_metric_title(board))
        axis.grid(alpha=0.25)
    lines = {line.get_label(): line for axis in axes[0] for line in axis.get_lines()}
    figure.legend(lines.values(), lines.keys(), loc="outside right center", frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw_line(axis, key: tuple[str, str, str], cells: dict[float, Cell], style: int) -> None:
    shares = sorted(cells)
    means = np.array([cells[share].mean for share in shares])
    spreads = np.array([cells[share].spread or 0.0 for share in shares])
    colour = COLOURS[style % len(COLOURS)]
    dash = {"frozen": "--", "baseline": ":"}.get(key[2], "-")
    marker = MARKERS[(style + style // len(COLOURS)) % len(MARKERS)]  # another pairing each round
    label = " ".join(part for part in key if part not in ("-", "baseline"))
    axis.plot(shares, means, dash, color=colour, marker=marker, markersize=5, label=label)
    if spreads.any():
        axis.fill_between(shares, means - spreads, means + spreads, color=colour, alpha=0.12)


def _board(task: str, rows: list[dict]) -> Board:
    rows = [row for row in rows if row["task"] == task]
    metric = rows[0]["metric"]
    rows = [row for row in rows if row["metric"] == metric]
    shares = sorted({row["label_share"] for row in rows})
    values: dict[tuple[str, str, str], dict[float, list[float]]] = {}
    for row in rows:
        key = (row["method"], row["encoder"], row["protocol"])
        values.setdefault(key, {}).setdefault(row["label_share"], []).append(row["value"])
    sign = 1 if metric in SMALLER_IS_BETTER else -1
    cells = {key: {s: _cell(v) for s, v in found.items()} for key, found in values.items()}
    ordered = sorted(cells.items(), key=lambda item: sign * item[1][max(item[1])].mean)
    return Board(task, metric, shares, max(row["test_users"] for row in rows), ordered)


def _cell(values: list[float]) -> Cell:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Cell(float(np.mean(values)), spread)


def _cells(board: Board, row: tuple[tuple[str, str, str], dict[float, Cell]], bold: str) -> list:
    key, cells = row
    best = min if board.metric in SMALLER_IS_BETTER else max
    shown = [html.escape(part) for part in key]
    for share in board.shares:
        leader = best((c[share].mean for _, c in board.rows if share in c), default=math.nan)
        text = str(cells[share]) if share in cells else ""
        is_best = share in cells and cells[share].mean == leader
        shown.append(bold.format(text) if is_best else text)
    return shown


def _heads(board: Board) -> list[str]:
    return ["method", "encoder", "protocol", *[f"{share:.0%} labels" for share in board.shares]]


def _title(board: Board) -> str:
    return f"{board.task} ({_metric_title(board)}, {board.test_users} test users)"


def _metric_title(board: Board) -> str:
    return board.metric + (", smaller is better" if board.metric in SMALLER_IS_BETTER else "")


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Leaderboard</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .3rem .8rem; border-bottom: 1px solid #ccc; text-align: left; }}
td {{ font-variant-numeric: tabular-nums; }}
img {{ max-width: 100%; }}
</style>
<h1>Leaderboard</h1>
{tables}
<img alt="Metric of each task against the share of labels" src="data:image/png;base64,{picture}">
</html>
"""
