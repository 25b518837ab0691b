"""The partitions of a data set: its days, its as-of days, its recipes, its model versions.

Every daily asset shares one definition: Dagster can then build a range of them in one run. What is
made as of some days only, such as labels and embeddings, has these days as partitions and no
others: a key is added by whoever requests it, or under *Add a partition* in the UI.
"""

import datetime as dt
import itertools
from collections.abc import Iterable

import dagster as dg

from contracts.base.clock import days_between
from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.config.sources import source_end
from contracts.lake.layout import Lake
from contracts.lake.versions import all_versions


def days(dataset: Dataset) -> dg.DailyPartitionsDefinition:
    """Local days of a data set, up to the last day of its source or to yesterday."""
    end = dataset.partitions.end or source_end(dataset.name)
    return dg.DailyPartitionsDefinition(
        start_date=dataset.partitions.start.isoformat(),
        end_date=(end + dt.timedelta(days=1)).isoformat() if end else None,
        timezone=dataset.timezone,
    )


def as_of_days(dataset: Dataset) -> dg.DynamicPartitionsDefinition:
    """Days as of which labels and training sequences are made."""
    return dg.DynamicPartitionsDefinition(name=f"{dataset.slug}_as_of_days")


def embedded_days(dataset: Dataset) -> dg.DynamicPartitionsDefinition:
    """Days with whose end users are embedded."""
    return dg.DynamicPartitionsDefinition(name=f"{dataset.slug}_embedded_days")


def daily_pool(dataset: Dataset) -> str:
    """Pool of the daily tables: of two runs, whose days may be the same, one waits."""
    return f"{dataset.slug}_daily"


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
    """Returns day x model version; a range of them is all days x all versions between its ends."""
    return dg.MultiPartitionsDefinition(
        {"day": embedded_days(dataset), "model_version": model_versions(dataset)}
    )


def cell(day: dt.date | str, version: str) -> str:
    """Partition key of a day x model version."""
    return str(dg.MultiPartitionKey({"day": str(day), "model_version": version}))


def no_days() -> dg.PartitionMapping:
    """Mapping from the days that an as-of day reads to that day, which widens no backfill.

    All days before are read. But a backfill of some days of events is not one of what is made as
    of each day after them: that is chosen by its own partitions.
    """
    return dg.SpecificPartitionsPartitionMapping([])


def add_days(
    instance: dg.DagsterInstance,
    partitions: dg.DynamicPartitionsDefinition,
    wanted: Iterable[dt.date | str],
) -> None:
    """Adds as-of or embedded days to those that exist, and keeps them in order.

    A range of partitions is what lies between its ends in the order of the keys, and Dagster keeps
    dynamic ones in the order in which they were added.
    """
    name = str(partitions.name)
    there = {*instance.get_dynamic_partitions(name)}
    _keep_in_order(instance, name, sorted(there | {str(day) for day in wanted}))


def _keep_in_order(instance: dg.DagsterInstance, name: str, keys: list[str]) -> None:
    """Makes the keys of dynamic partitions these, in this order."""
    there = list(instance.get_dynamic_partitions(name))
    alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(there, keys, strict=False))
    kept = len(list(alike))
    # Nothing recorded of a partition goes with its key, and the key comes back at once.
    for key in there[kept:]:
        instance.delete_dynamic_partition(name, key)
    if keys[kept:]:
        instance.add_dynamic_partitions(name, keys[kept:])


def add_requested(
    instance: dg.DagsterInstance, dataset: Dataset, stage: str, first: str | None, last: str | None
) -> None:
    """Adds the as-of or embedded days between the ends of a stage's range to those that exist.

    Model versions are those of the lake, whichever instance has made them, in the order in which
    they were named: a range of them goes by it.
    """
    added = {"inputs": as_of_days, "embedding": embedded_days}.get(stage)
    if added and first and last:
        ends = (parse_day(key.split("|")[0]) for key in (first, last))
        add_days(instance, added(dataset), days_between(*ends))
    if stage == "embedding":
        name = str(model_versions(dataset).name)
        there = {*instance.get_dynamic_partitions(name)}
        named = [version.version for version in all_versions(Lake.of(dataset.name))]
        _keep_in_order(instance, name, [*named, *sorted(there - set(named))])


def days_of(context: dg.AssetExecutionContext) -> list[dt.date]:
    """Days that this run builds, in order.

    Raises:
      FootpathError: a partition that somebody has added by hand is no day.
    """
    return sorted(parse_day(key) for key in context.partition_keys)


def parse_day(text: str) -> dt.date:
    """A day as written in a partition key or by a person.

    Raises:
      FootpathError: it is none.
    """
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise FootpathError(f"'{text}' is not a day: write it as 2026-01-31") from None
