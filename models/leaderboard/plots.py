"""The pictures of a comparison, each as a PNG."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from models.leaderboard.boards import Cell

# Okabe and Ito's palette, told apart by color-blind readers; markers and dashes say it again.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def plot_batch_sizes(curves: dict[str, dict[str, dict[int, Cell]]], path: Path) -> None:
    """Draws figures against the batch size of pre-training.

    Args:
      curves: panel (task, metric, labels) -> line (method, encoder, protocol) -> batch size.
      path: of the picture.
    """
    styles = {
        name: n for n, name in enumerate(dict.fromkeys(n for c in curves.values() for n in c))
    }
    figure, axes = _panels(len(curves))
    for axis, (panel, lines) in zip(axes, curves.items(), strict=True):
        for name, cells in lines.items():
            _line(axis, cells, styles[name], name, "-")
        sizes = sorted({size for cells in lines.values() for size in cells})
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.minorticks_off()
        axis.set(title=panel, xlabel="batch size of pre-training (users)")
        axis.grid(alpha=0.25)
    _finish(figure, axes, path)


def plot_map(maps: dict[str, tuple[np.ndarray, list[str]]], path: Path) -> None:
    """Draws user vectors in the plane of their two main directions, colored by label.

    Args:
      maps: panel -> (vectors [n, D], the label of each).
      path: of the picture.
    """
    figure, axes = _panels(len(maps))
    for axis, (panel, (x_nD, labels)) in zip(axes, maps.items(), strict=True):
        xy, explained = principal(x_nD)
        for n, label in enumerate(sorted(set(labels))):
            at = np.array([each == label for each in labels])
            color, marker = COLORS[n % len(COLORS)], MARKERS[n % len(MARKERS)]
            axis.scatter(*xy[at].T, s=12, alpha=0.6, color=color, marker=marker, label=label)
        axis.set(title=panel, xlabel=f"first direction ({explained[0]:.0%} of the variance)")
        axis.set(ylabel=f"second ({explained[1]:.0%})")
        axis.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=110)
    close(figure)


def plot_health(curves: dict[str, pa.Table], path: Path) -> None:
    """Draws spread and effective rank of the user vectors over pre-training: collapse is a fall.

    Args:
      curves: recipe -> table with progress (0 to 1), spread and effective_rank.
      path: of the picture.
    """
    names = {"spread": "spread of the user vectors", "effective_rank": "effective rank"}
    figure, axes = _panels(2)
    for axis, (column, title) in zip(axes, names.items(), strict=True):
        for n, (recipe, table) in enumerate(curves.items()):
            x, y = table["progress"].to_numpy(), table[column].to_numpy()
            marker = MARKERS[(n + n // len(COLORS)) % len(MARKERS)]
            axis.plot(x, y, color=COLORS[n % len(COLORS)], marker=marker, ms=3, label=recipe)
        axis.set(title=title, xlabel="share of pre-training", ylim=(0, None))
        axis.grid(alpha=0.25)
    _finish(figure, axes, path)


def plot_attention(lines: dict[str, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """Draws how much an event attends to others, against the distance in events.

    Args:
      lines: layer or recipe -> (distance [K], mean attention [K]).
      path: of the picture.
    """
    figure, axes = _panels(1)
    for n, (name, (distance, weight)) in enumerate(lines.items()):
        axes[0].plot(distance, weight, color=COLORS[n % len(COLORS)], label=name)
    axes[0].set(xlabel="distance in events", ylabel="mean attention", yscale="log")
    axes[0].grid(alpha=0.25)
    _finish(figure, axes, path)


def principal(x_nD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Projects standardized vectors on their two main directions -> [n, 2], and their shares."""
    spread = x_nD.std(axis=0)
    standard = (x_nD - x_nD.mean(axis=0)) / np.where(spread > 1e-9, spread, 1)
    left, values, _ = np.linalg.svd(standard, full_matrices=False)
    power = np.square(values)
    return left[:, :2] * values[:2], power[:2] / max(power.sum(), 1e-12)


def new_figure(rows: int, columns: int, inches: tuple[float, float]):
    """A figure and its axes, row by row; it needs no screen."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=inches, squeeze=False, layout="constrained")
    return figure, list(axes.ravel())


def _panels(count: int):
    return new_figure(1, count, (4.6 * count + 2.4, 4.2))


def _line(axis, cells: Mapping[float, Cell], style: int, label: str, dash: str) -> None:
    at = sorted(cells)
    means = np.array([cells[x].mean for x in at])
    spreads = np.array([cells[x].spread or 0.0 for x in at])
    color = COLORS[style % len(COLORS)]
    marker = MARKERS[(style + style // len(COLORS)) % len(MARKERS)]  # another pairing each round
    axis.plot(at, means, dash, color=color, marker=marker, markersize=5, label=label)
    if spreads.any():
        axis.fill_between(at, means - spreads, means + spreads, color=color, alpha=0.12)


def _finish(figure, axes: list, path: Path) -> None:
    lines = {line.get_label(): line for axis in axes for line in axis.get_lines()}
    figure.legend(lines.values(), lines.keys(), loc="outside right center", frameon=False)
    figure.savefig(path, dpi=130)
    close(figure)


def close(figure) -> None:
    """Frees a figure."""
    from matplotlib import pyplot as plt

    plt.close(figure)
