"""The picture of label efficiency: each task's metric against the share of labels.

A method with its encoder is one line, of the protocol and the inputs that serve it best at the most
labels; the best lines are drawn, each named at its end. Baselines are dashed and without color.
The picture is 1,000 pixels wide, as the page shows it.
"""

from pathlib import Path

import pyarrow as pa

from models.leaderboard.boards import Board, Cell, Who, boards
from models.leaderboard.plots import COLORS, MARKERS, close, new_figure

MOST = 6  # lines of methods in a panel: each has a color of its own
MOST_BASELINES = 3
WIDE, HIGH = 10.0, 3.6  # inches: of the whole, and of a row of panels
DPI = 100
LINE = 12.0  # pixels between the names at the ends of two lines
GREYS = ("#000000", "#666666", "#999999")

Row = tuple[Who, dict[float, Cell]]


def plot(table: pa.Table, path: Path) -> None:
    """Draws a panel a task, two side by side."""
    found = boards(table)
    colors: dict[tuple[str, str], int] = {}
    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    figure, axes = new_figure(rows, columns, (WIDE, HIGH * rows))
    for axis, board in zip(axes, found, strict=False):
        ends = [_draw(axis, row, colors) for row in best_rows(board)]
        axis.set_xscale("log")
        axis.set_xticks(board.shares, [f"{share:.0%}" for share in board.shares])
        axis.minorticks_off()
        axis.set(title=board.task, xlabel="labeled training users", ylabel=board.metric.title)
        axis.grid(alpha=0.25)
        _name(axis, ends, max(board.shares))
    for axis in axes[len(found) :]:
        axis.remove()
    figure.savefig(path, dpi=DPI)
    close(figure)


def best_rows(board: Board) -> list[Row]:
    """The rows to draw, best first: the best of each method, and the best baselines."""
    kept: dict[tuple[str, str], Row] = {}
    for who, cells in board.rows:  # best first
        kept.setdefault((who.method, who.encoder), (who, cells))
    baselines = [row for row in kept.values() if row[0].protocol == "baseline"]
    if len(baselines) > 1:  # so far below that all else would lie on one line
        baselines = [row for row in baselines if row[0].method != "majority"]
    methods = [row for row in kept.values() if row[0].protocol != "baseline"]
    return methods[:MOST] + baselines[:MOST_BASELINES]


def label(who: Who) -> str:
    """What stands at the end of a line."""
    inputs = who.inputs.removeprefix("embedding")
    if who.protocol == "baseline":
        return who.method
    return " ".join(part for part in (who.method, who.encoder, who.protocol, inputs) if part)


def spread_out(places: list[float], apart: float) -> list[float]:
    """Moves places that are too near until they are so far apart; their order stays."""
    order = sorted(range(len(places)), key=lambda n: places[n])
    groups: list[tuple[float, list[int]]] = []  # middle, members from below
    for n in order:
        groups.append((places[n], [n]))
        while len(groups) > 1 and _touch(groups[-2], groups[-1], apart):
            (low, below), (high, above) = groups[-2:]
            both = below + above
            middle = (low * len(below) + high * len(above)) / len(both)
            groups[-2:] = [(middle, both)]
    moved = list(places)
    for middle, members in groups:
        for nth, n in enumerate(members):
            moved[n] = middle + (nth - (len(members) - 1) / 2) * apart
    return moved


def _touch(below: tuple[float, list[int]], above: tuple[float, list[int]], apart: float) -> bool:
    needed = (len(below[1]) + len(above[1])) / 2 * apart
    return above[0] - below[0] < needed


def _draw(axis, row: Row, colors: dict[tuple[str, str], int]) -> tuple[str, float, float, str]:
    """Draws a line; returns its name, where it ends, and its color."""
    who, cells = row
    shares = sorted(cells)
    means = [cells[share].mean for share in shares]
    if who.protocol == "baseline":
        known = colors.setdefault((who.method, "-"), sum(e == "-" for _, e in colors))
        look = {"color": GREYS[known % len(GREYS)], "linestyle": "--"}
    else:
        known = colors.setdefault((who.method, who.encoder), sum(e != "-" for _, e in colors))
        look = {"color": COLORS[known % MOST], "linestyle": "-"}  # the last two are the baselines'
        look["marker"] = MARKERS[(known + known // MOST) % len(MARKERS)]
    axis.plot(shares, means, markersize=4, linewidth=1.4, **look)
    return label(who), shares[-1], means[-1], look["color"]


def _name(axis, ends: list[tuple[str, float, float, str]], last: float) -> None:
    """Writes each line's name to the right of the panel, at the height of its end."""
    axis.figure.canvas.draw()  # the layout must stand before heights are known in pixels
    to_pixels, to_data = axis.transData, axis.transData.inverted()
    heights = [float(to_pixels.transform((last, end))[1]) for _, _, end, _ in ends]
    for (name, at, end, color), height in zip(ends, spread_out(heights, LINE), strict=True):
        axis.annotate(
            name,
            xy=(at, end),
            xytext=(1.06, float(to_data.transform((0, height))[1])),
            textcoords=axis.get_yaxis_transform(),
            color=color,
            fontsize=8,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "lw": 0.5,
                "shrinkA": 0,
                "shrinkB": 3,
                "relpos": (0, 0.5),
            },
        )
