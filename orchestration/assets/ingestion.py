"""Landing files to canonical events; catalog and user tables."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import dagster as dg

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.meanings import EVENT_MEANINGS
from contracts.lake.remote import told
from contracts.lake.schemas import EVENTS, ITEMS, USERS
from orchestration.catalog import column_schema
from orchestration.partitions import daily_pool, days, days_of
from orchestration.progress import Progress
from orchestration.runs.retries import retried
from orchestration.tags import DUE
from orchestration.write_audit_publish import CHECK, PROFILE, build_days, check_specs

if TYPE_CHECKING:
    from features.ingestion.manifest import Manifest

GROUP = "ingestion"
OWNERS = ["team:data-platform"]


def ingestion_assets(dataset: Dataset) -> list[dg.AssetsDefinition]:
    """Returns `landing`, `events`, and `items` and `users` where the data set has them."""
    assets = [_landing(dataset), _events(dataset)]
    if dataset.items:
        assets.append(_items(dataset))
    if dataset.users:
        assets.append(_users(dataset))
    return assets


def _landing(dataset: Dataset) -> dg.AssetsDefinition:
    dated = dataset.landing.is_dated

    @dg.asset(
        name="landing",
        key_prefix=dataset.slug,
        group_name=f"{dataset.slug}_{GROUP}",
        owners=OWNERS,
        kinds={"duckdb", dataset.landing.format},
        partitions_def=days(dataset) if dated else None,
        backfill_policy=dg.BackfillPolicy.single_run() if dated else None,
        # Two runs, on two machines, would sweep each other's fragments.
        pool=f"{dataset.slug}_landing",
    )
    def landing(context: dg.AssetExecutionContext, progress: Progress) -> dg.MaterializeResult:
        """Each landing file read once and cut by event day, with a manifest of where rows went."""
        from features.ingestion.landing import land

        lake, wanted = Lake.of(dataset.name), days_of(context) if dated else None
        with retried(context), told(str(lake.root)):
            said, is_due = progress.of(context, "landing files"), DUE in context.run.tags
            report = land(dataset, lake, wanted, said, only_new=is_due)
        if not dated:
            return dg.MaterializeResult(metadata=_counts(report.files))
        by_day = {day: [] for day in days_of(context)}
        for file in report.files:
            by_day[file.arrival_day].append(file)
        for day, files in by_day.items():
            context.add_asset_metadata(_counts(files), partition_key=str(day))
        return dg.MaterializeResult(metadata={"files_skipped": report.files_skipped})

    return landing


def _counts(files: "list[Manifest]") -> dict[str, int]:
    """Figures of the files that this run has read; those it knew count nothing."""
    rows = sum(file.rows for file in files)
    return {
        "dagster/row_count": rows,
        "files_read": len(files),
        "rows_quarantined": rows + sum(file.added - sum(file.days.values()) for file in files),
        "rows_too_late": sum(file.too_late for file in files),
        "rows_late": sum(file.late for file in files),
    }


def _events(dataset: Dataset) -> dg.AssetsDefinition:
    key = [dataset.slug, "events"]

    @dg.asset(
        key=key,
        group_name=f"{dataset.slug}_{GROUP}",
        owners=OWNERS,
        kinds={"duckdb", "greatexpectations", "parquet"},
        deps=[dg.AssetKey([dataset.slug, "landing"])],
        partitions_def=days(dataset),
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=daily_pool(dataset),
        check_specs=check_specs(dataset, key, CHECK, PROFILE),
        metadata=column_schema(EVENTS, EVENT_MEANINGS),
    )
    def events(context: dg.AssetExecutionContext) -> Iterator:
        """Canonical events of the day: duplicates removed, audited, bad rows in quarantine."""
        from features.ingestion.dedup import stage_events
        from validation.gate import audit_events

        lake = Lake.of(dataset.name)
        stage = partial(stage_events, dataset, lake)
        audit = partial(audit_events, dataset, lake)
        yield from build_days(context, dataset, "events", stage, audit)

    return events


def _items(dataset: Dataset) -> dg.AssetsDefinition:
    @dg.asset(
        name="items",
        key_prefix=dataset.slug,
        group_name=f"{dataset.slug}_{GROUP}",
        owners=OWNERS,
        kinds={"duckdb", "parquet"},
        metadata=column_schema(ITEMS),
    )
    def items() -> dg.MaterializeResult:
        """The catalog: title, category and attributes of every item."""
        from features.ingestion.lookup_tables import build_items

        rows = build_items(dataset, Lake.of(dataset.name))
        return dg.MaterializeResult(metadata={"dagster/row_count": rows})

    return items


def _users(dataset: Dataset) -> dg.AssetsDefinition:
    @dg.asset(
        name="users",
        key_prefix=dataset.slug,
        group_name=f"{dataset.slug}_{GROUP}",
        owners=OWNERS,
        kinds={"duckdb", "parquet"},
        metadata=column_schema(USERS),
    )
    def users() -> dg.MaterializeResult:
        """What the source says of its users, such as age and gender."""
        from features.ingestion.lookup_tables import build_users

        rows = build_users(dataset, Lake.of(dataset.name))
        return dg.MaterializeResult(metadata={"dagster/row_count": rows})

    return users
