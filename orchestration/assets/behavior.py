"""Events to sessions, and to features of users and items.

All read days before their own (`features.staleness` knows which), but depend on the same day here:
a mapping with an offset makes a backfill of 30 days build 32 of sessions and 60 of features, in
runs that go by turns. Of one run the upstream days are built first, whatever the mapping.
"""

import datetime as dt
from collections.abc import Iterator
from functools import partial

import dagster as dg

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.meanings import SESSION_MEANINGS
from contracts.lake.schemas import SESSIONS
from features.behavior.feature_fields import feature_schema
from features.behavior.origins import origins
from features.behavior.tables import FeatureTable, feature_tables
from orchestration.catalog import column_lineage, column_schema
from orchestration.partitions import daily_pool, days
from orchestration.write_audit_publish import CHECK, DRIFT, build_days, check_specs

GROUP = "behavior"
OWNERS = ["team:data-platform"]

# What a session takes from its events.
SESSION_COLUMNS = {
    column: [("events", source) for source in sources]
    for column, sources in {
        "session_id": ["user_id", "timestamp", "session_id"],
        "user_id": ["user_id"],
        "started_at": ["timestamp"],
        "ended_at": ["timestamp"],
        "closes_at": ["timestamp"],
        "length": ["event_id"],
        "duration_seconds": ["timestamp"],
        "actions": ["action", "timestamp", "sequence"],
        "item_ids": ["item_id", "timestamp", "sequence"],
        "distinct_items": ["item_id"],
        "value": ["value"],
        "is_cut": ["event_id"],
    }.items()
}


def behavior_assets(dataset: Dataset) -> list[dg.AssetsDefinition]:
    """Returns `sessions`, and the tables of features that the data set has."""
    return [_sessions(dataset), *(_features(dataset, table) for table in feature_tables(dataset))]


def _sessions(dataset: Dataset) -> dg.AssetsDefinition:
    key = [dataset.slug, "sessions"]

    @dg.asset(
        key=key,
        group_name=f"{dataset.slug}_{GROUP}",
        owners=OWNERS,
        kinds={"ibis", "greatexpectations", "parquet"},
        deps=[dg.AssetKey([dataset.slug, "events"])],
        partitions_def=days(dataset),
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=daily_pool(dataset),
        check_specs=check_specs(dataset, key, CHECK),
        metadata=column_schema(SESSIONS, SESSION_MEANINGS)
        | column_lineage(dataset.slug, SESSION_COLUMNS),
    )
    def sessions(context: dg.AssetExecutionContext) -> Iterator:
        """Sessions that close on the day: events without a longer gap, or of the source's id."""
        from features.sessionization.sessions import stage_sessions
        from validation.gate import audit_table

        lake = Lake.of(dataset.name)
        stage = partial(stage_sessions, dataset, lake)
        audit = partial(audit_table, dataset, lake, "sessions")
        describe = partial(_agreement, dataset, lake)
        yield from build_days(context, dataset, "sessions", stage, audit, describe)

    return sessions


def _agreement(
    dataset: Dataset, lake: Lake, days: list[dt.date]
) -> dict[dt.date, dict[str, int | float]]:
    """How far a gap and the source's own ids say alike that a session begins with an event."""
    from features.sessionization.agreement import agreement_of_days

    if dataset.events.session_id is None:
        return {}
    return {
        day: {"events_with_source_session": events, "sessions_agree_share": agree / events}
        for day, (events, agree) in agreement_of_days(dataset, lake, days).items()
        if events
    }


def _features(dataset: Dataset, table: FeatureTable) -> dg.AssetsDefinition:
    key, fields = [dataset.slug, table.name], table.fields(dataset)
    upstream = ["events", "sessions"]
    if dataset.items and table.entity == "user" and "events" in table.sources:
        upstream.append("items")

    @dg.asset(
        key=key,
        description=f"Features of each {table.entity}: {table.about}.",
        group_name=f"{dataset.slug}_{GROUP}",
        owners=OWNERS,
        kinds={"ibis", "greatexpectations", "parquet"},
        deps=[dg.AssetKey([dataset.slug, name]) for name in upstream],
        partitions_def=days(dataset),
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=daily_pool(dataset),
        check_specs=check_specs(dataset, key, CHECK, DRIFT),
        metadata=column_schema(
            feature_schema(fields, table.key), {f.name: f.description for f in fields}
        )
        | column_lineage(dataset.slug, {f.name: origins(dataset, f, table) for f in fields}),
    )
    def features(context: dg.AssetExecutionContext) -> Iterator:
        from features.behavior.build import stage_features
        from validation.gate import audit_table

        lake = Lake.of(dataset.name)
        stage = partial(stage_features, dataset, lake, table=table)
        audit = partial(audit_table, dataset, lake, table.name)
        yield from build_days(context, dataset, table.name, stage, audit)

    return features
