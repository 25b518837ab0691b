"""The curves of a training run as one picture.

Comes in: curves.parquet of a checkpoint folder. Goes out: PNG.
"""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PANELS = {
    "loss": ("loss",),
    "gradient norm": ("gradient_norm",),
    "health": ("spread", "effective_rank"),
    "validation loss": ("validation_loss",),
}
SMOOTHED = 50  # points that remain of a curve


def draw_curves(curves: Path) -> bytes:
    """Draws loss, gradient norm, spread and effective rank and, if any, the validation loss."""
    from matplotlib.figure import Figure

    table = pq.read_table(curves)
    panels = {
        title: [
            name for name in names if name in table.column_names and _values(table, name)[0].size
        ]
        for title, names in PANELS.items()
    }
    panels = {title: names for title, names in panels.items() if names}
    figure = Figure(figsize=(3.4 * len(panels), 2.6), layout="constrained")
    for place, (title, names) in enumerate(panels.items(), start=1):
        axis = figure.add_subplot(1, len(panels), place)
        for nth, name in enumerate(names):
            own = axis if nth == 0 else axis.twinx()
            own.plot(*_smoothed(*_values(table, name)), color=f"C{nth}", lw=1.2)
            if len(names) > 1:
                own.set_ylabel(name.replace("_", " "), color=f"C{nth}", fontsize=8)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=80)
    return picture.getvalue()


def _values(table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Where a figure was measured, and what it was."""
    values = table[name].to_numpy().astype(np.float64)
    known = np.isfinite(values)
    return table["step"].to_numpy()[known], values[known]


def _smoothed(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Averages neighbors, so that the trend is seen behind the noise of single batches."""
    parts = min(SMOOTHED, len(values))
    means = [[part.mean() for part in np.array_split(x, parts)] for x in (steps, values)]
    return np.array(means[0]), np.array(means[1])
