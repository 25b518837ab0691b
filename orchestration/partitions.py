"""The partitions of a data set: its days, its recipes, its model versions.

Every daily asset shares one definition: Dagster can then build a range of them in one run.
"""

import datetime as dt

import dagster as dg

from contracts.config.dataset import Dataset


def days(dataset: Dataset) -> dg.DailyPartitionsDefinition:
    """Local days of a data set, up to its last day or to yesterday."""
    end = dataset.partitions.end
    return dg.DailyPartitionsDefinition(
        start_date=dataset.partitions.start.isoformat(),
        end_date=(end + dt.timedelta(days=1)).isoformat() if end else None,
        timezone=dataset.timezone,
    )


def recipes(dataset: Dataset) -> dg.StaticPartitionsDefinition:
    """Recipes (method x encoder) that the data set's YAML names."""
    return dg.StaticPartitionsDefinition(list(dataset.learning.recipes))


def model_versions(dataset: Dataset) -> dg.DynamicPartitionsDefinition:
    """Model versions: a key is added whenever a pre-training run makes one."""
    return dg.DynamicPartitionsDefinition(name=f"{dataset.slug}_model_versions")


def comparisons(dataset: Dataset) -> dg.DynamicPartitionsDefinition:
    """Comparisons by name: a key is added whenever one is planned."""
    return dg.DynamicPartitionsDefinition(name=f"{dataset.slug}_comparisons")


def days_by_version(dataset: Dataset) -> dg.MultiPartitionsDefinition:
    """Returns day x model version."""
    return dg.MultiPartitionsDefinition(
        {"day": days(dataset), "model_version": model_versions(dataset)}
    )


def days_of(context: dg.AssetExecutionContext) -> list[dt.date]:
    """Days that this run builds, in order."""
    return sorted(dt.date.fromisoformat(key) for key in context.partition_keys)
