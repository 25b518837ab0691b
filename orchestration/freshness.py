"""When the UI calls an asset overdue: Dagster's freshness policies, by the deadlines of the YAML.

A policy is of an asset, not of a partition: a rebuild of an old day counts as fresh too. Which day
has no file is found day by day, in `alerts/lake.py`. Dagster's checks of the newest partition are
superseded by policies, and each would be a step of every daily run.
"""

import datetime as dt

import dagster as dg

from contracts.config.dataset import Dataset
from features.staleness import daily_tables

MODEL = "pretrained_encoder"

BUILDING = dt.timedelta(hours=3)  # that the night's work may take after a day is complete


def freshness_policies(dataset: Dataset) -> dict[str, dg.FreshnessPolicy]:
    """By asset: when it is overdue; nothing of a source that gets nothing new.

    Such a source has ended, or its files have no dates.
    """
    automation = dataset.automation
    if not automation.freshness or dataset.partitions.end or not dataset.landing.is_dated:
        return {}
    policies: dict[str, dg.FreshnessPolicy] = {}
    if not dataset.quality.allow_empty_days:
        late = dt.timedelta(hours=automation.alerts.missing_hours) + BUILDING
        # Of which day the time is does not matter: each day has one.
        due = dt.datetime.combine(dt.date(2026, 1, 1), automation.complete.at) + late
        daily = dg.FreshnessPolicy.cron(
            f"{due.minute} {due.hour} * * *", dt.timedelta(days=1), dataset.timezone
        )
        policies |= dict.fromkeys(["landing", *daily_tables(dataset)], daily)
    if days := automation.stale_model_days:
        policies[MODEL] = dg.FreshnessPolicy.time_window(fail_window=dt.timedelta(days=days))
    return policies


def with_freshness(
    dataset: Dataset, assets: list[dg.AssetsDefinition]
) -> list[dg.AssetsDefinition]:
    """The same assets, with their freshness policies."""
    policies = freshness_policies(dataset)

    def policed(spec: dg.AssetSpec) -> dg.AssetSpec:
        policy = policies.get(spec.key.path[-1])
        return dg.apply_freshness_policy(spec, policy) if policy else spec

    return [asset.map_asset_specs(policed) for asset in assets] if policies else assets
