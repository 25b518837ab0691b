"""The pictures of a comparison, from its table and what the trainings left."""

import contextlib
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.base.errors import FootpathError
from contracts.config.comparison import Comparison
from contracts.lake.versions import CONFIG
from models.experiments.planning import Measured, Plan
from models.leaderboard.boards import Cell, boards
from models.leaderboard.efficiency import plot
from models.leaderboard.plots import (
    plot_attention,
    plot_batch_sizes,
    plot_health,
    plot_map,
)

MAPS = 3  # panels of the map of users
WATCHED = 32  # users whose attention is averaged


def draw(
    table: pa.Table, plan: Plan, comparison: Comparison, folder: Path, name: str
) -> dict[str, Path]:
    """Draws what there is to draw; returns the pictures by what they show."""
    found: dict[str, Path] = {}
    path = folder / f"{name}-labels.png"
    if len(comparison.shares) > 1:
        plot(table, path)
        found["Label efficiency: each task's metric against the share of labels"] = path
    if len(comparison.batch_sizes) > 1:
        path = folder / f"{name}-batch-sizes.png"
        plot_batch_sizes(batch_curves(table), path)
        found["The batch size of pre-training"] = path
    if maps := user_maps(table, plan):
        path = folder / f"{name}-map.png"
        plot_map(maps, path)
        found["Test users in the two main directions of their vectors, colored by label"] = path
    if curves := health_curves(plan):
        path = folder / f"{name}-health.png"
        plot_health(curves, path)
        found["Collapse would be a fall of spread or effective rank to the floor"] = path
    if lines := attention_curves(plan):
        path = folder / f"{name}-attention.png"
        plot_attention(lines, path)
        found["How far encoders with attention look: mean weight by distance in events"] = path
    return found


def batch_curves(table: pa.Table) -> dict[str, dict[str, dict[int, Cell]]]:
    """Returns figures by batch size: panel -> line -> size; recipes say their size as ` b64`."""
    panels: dict[str, dict[str, dict[int, Cell]]] = {}
    for board in boards(table):
        for share in sorted({board.shares[0], board.shares[-1]}):
            lines = panels.setdefault(f"{board.task}, {board.metric.title}, {share:.0%} labels", {})
            for who, cells in board.rows:
                sized = re.fullmatch(r"(.*) b(\d+)", who.method)
                if sized and who.inputs == "embedding" and share in cells:
                    line = f"{sized[1]} {who.encoder} {who.protocol}"
                    lines.setdefault(line, {})[int(sized[2])] = cells[share]
    return panels


def health_curves(plan: Plan) -> dict[str, pa.Table]:
    """Returns spread and effective rank over the pre-training of each recipe's first seed."""
    curves: dict[str, pa.Table] = {}
    for measured in plan.measured:
        if measured.recipe is None or measured.seed or not measured.curves.exists():
            continue
        path = measured.curves
        table = pq.read_table(path)
        if {"spread", "effective_rank"} <= set(table.column_names):
            last = max(table["step"][-1].as_py(), 1) if table.num_rows else 1
            kept = table.filter(pc.is_valid(table["spread"]))
            progress = pc.divide(pc.cast(kept["step"], pa.float64()), float(last))
            named = f"{measured.recipe.label} {measured.recipe.recipe.encoder.name}"
            curves[named] = kept.append_column("progress", progress)
    return curves


def attention_curves(plan: Plan) -> dict[str, tuple]:
    """Returns attention by distance of each pre-trained encoder that has any, and its weights."""
    from models.checkpoint import load_checkpoint
    from models.data.packed import pack
    from models.data.sequences import open_sequences
    from models.nn.attention_map import attention_by_distance

    lines: dict[str, tuple] = {}
    for measured in plan.measured:
        named = measured.recipe
        if named is None or measured.seed or not named.recipe.method.trains:
            continue
        folder = measured.curves.parent
        if not (folder / CONFIG).exists():
            continue
        checkpoint = load_checkpoint(folder)
        sequences = open_sequences(Path(measured.sequences))
        sequences = checkpoint.model.config.reading(sequences)
        # A step through the users: neighbors in the table may be alike.
        users = np.flatnonzero(sequences.lengths)[:: max(1, sequences.users // WATCHED)][:WATCHED]
        taken = np.minimum(sequences.lengths[users], checkpoint.model.config.max_length)
        events = pack(sequences.windows(users, sequences.lengths[users] - taken, taken))
        with contextlib.suppress(FootpathError):  # it turned out to have none
            lines[f"{named.label} {named.recipe.encoder.name}"] = attention_by_distance(
                checkpoint.model, events
            )
    return lines


def user_maps(table: pa.Table, plan: Plan) -> dict[str, tuple]:
    """Returns, for each of some tasks, the vectors of the recipe whose frozen probe is best."""
    maps: dict[str, tuple] = {}
    for board in boards(table):
        ranked = [
            who for who, _ in board.rows
            if who.protocol in ("frozen", "scratch") and who.inputs == "embedding"
        ]  # fmt: skip
        for who in ranked:
            found = _vectors_of(plan.measured, board.task, who.method, who.encoder)
            if found:
                kept = pq.read_table(found)
                vectors = np.stack(kept["vector"].to_numpy(zero_copy_only=False))
                panel = f"{board.task}: {who.method} {who.encoder}"
                maps[panel] = (vectors, kept["label"].to_pylist())
                break
        if len(maps) == MAPS:
            break
    return maps


def _vectors_of(measured: list[Measured], task: str, method: str, encoder: str) -> Path | None:
    for each in measured:
        named, path = each.recipe, each.vectors
        if named is None or not path.exists():
            continue
        if (each.task, named.label, named.recipe.encoder.name) == (task, method, encoder):
            return path
    return None
