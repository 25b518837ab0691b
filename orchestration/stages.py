"""The stages of a data set's chain, in order: the assets of each, and the job that builds them.

A job holds assets of one partitioning: Dagster's rule.
"""

import dagster as dg

from contracts.config.dataset import Dataset
from features.staleness import daily_tables

# Not of the chain, and without an asset: what nothing needs any more goes.
CLEANING = "cleaning"


def stage_assets(dataset: Dataset) -> dict[str, list[dg.AssetKey]]:
    """Keys of the assets of each stage that the data set has."""
    tables = [name for name in ("items", "users") if getattr(dataset, name)]
    models = [f"finetuned_{task.name}" for task in dataset.daily_tasks]
    stages = {
        "tables": tables,
        "landing": ["landing"],
        "daily": daily_tables(dataset),
        "inputs": [*(["labels"] if dataset.daily_tasks else []), "training_sequences"],
        "pretraining": ["pretrained_encoder", *models],
        "evaluation": ["task_baselines", "leaderboard"] if dataset.daily_tasks else [],
        "embedding": ["user_embeddings"],
        "serving": ["feature_registry", "online_features", "similar_users_index"],
        "comparison": ["comparison"] if dataset.tasks else [],
    }
    return {
        stage: [dg.AssetKey([dataset.slug, name]) for name in names]
        for stage, names in stages.items()
        if names
    }


def job_name(dataset: Dataset, stage: str) -> str:
    """Name of the job that builds a stage."""
    return f"{dataset.slug}_{stage}"
