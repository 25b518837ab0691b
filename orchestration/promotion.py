"""Which model version downstream teams get: the one that leads the leaderboard."""

import pyarrow as pa
import pyarrow.compute as pc

from contracts.dataset import Dataset
from contracts.lake import Lake
from contracts.reading import read_table
from orchestration.versions import all_versions, measured_files


def leading_version(dataset: Dataset, lake: Lake) -> str | None:
    """Returns the best pre-trained version that has embeddings, or None.

    Best is the highest mean, over the tasks, of the frozen probe's metric with all labels: a
    downstream team gets the vector as it is. Errors (mae) count negative. A data set without tasks
    takes its newest version.
    """
    embedded = [
        version.version
        for version in all_versions(lake)
        if not version.recipe.startswith("none_")
        and any(lake.table(f"user_embeddings/{version.version}").glob("*.parquet"))
    ]
    if not embedded:
        return None
    files = measured_files(lake, dataset.learning.recipes, "metrics")
    if not dataset.daily_tasks or not files:
        return embedded[-1]
    metrics = pa.concat_tables([read_table(path) for path in files])
    scores = {version: _score(dataset, metrics, version) for version in embedded}
    scores = {version: score for version, score in scores.items() if score is not None}
    return max(scores, key=lambda version: scores[version]) if scores else embedded[-1]


def _score(dataset: Dataset, metrics: pa.Table, version: str) -> float | None:
    share = max(dataset.learning.label_shares)
    values = []
    for task in dataset.daily_tasks:
        rows = metrics.filter(
            (pc.field("model_version") == version)
            & (pc.field("protocol") == "frozen")
            & (pc.field("inputs") == "embedding")
            & (pc.field("task") == task.name)
            & (pc.field("metric") == task.metric)
            & (pc.field("label_share") == share)
        )
        if rows.num_rows:
            mean = pc.mean(rows["value"]).as_py()
            values.append(-mean if task.metric == "mae" else mean)
    return sum(values) / len(values) if values else None
