"""Encoders to embeddings, and everything that is served to the feature store."""

import datetime as dt
from typing import Any

import dagster as dg

from contracts.base.hashing import hash_json
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.schemas import embeddings_schema
from features.behavior.tables import BEHAVIOR, feature_tables
from orchestration.assets.learning_inputs import all_days, before
from orchestration.assets.online import online_asset
from orchestration.catalog import check_specs, column_schema
from orchestration.dagster_private import NOT_RECORDED
from orchestration.due_cells import due_cells
from orchestration.embedding.days import job_of, plan_days, publish_day
from orchestration.experiments.programs import run_program
from orchestration.partitions import cell as cell_key
from orchestration.partitions import days_by_version, parse_day
from orchestration.promotion.report import decisions_table, promotion_check
from orchestration.promotion.steps import promote_by_hand, promote_due
from orchestration.runs.retries import retried
from orchestration.tags import DUE

GROUP = "serving"

# Days x versions that one process embeds: its start costs seconds, and a kill costs its cells.
PROCESS_CELLS = 60

OWNERS = ["team:data-platform"]


def serving_assets(dataset: Dataset) -> list[dg.AssetsDefinition]:
    """Returns everything from `user_embeddings` to `similar_users_index`."""
    return [_embeddings(dataset), _registry(dataset), online_asset(dataset), _similar(dataset)]


def _embeddings(dataset: Dataset) -> dg.AssetsDefinition:
    @dg.asset(
        name="user_embeddings",
        key_prefix=dataset.slug,
        group_name=f"{dataset.slug}_{GROUP}",
        owners=OWNERS,
        kinds={"pytorch", "parquet"},
        deps=_embedded_from(dataset),
        partitions_def=days_by_version(dataset),
        backfill_policy=dg.BackfillPolicy.single_run(),
        metadata=column_schema(embeddings_schema(next(iter(dataset.recipes.values())).dim)),
        pool="embedding",
    )
    def user_embeddings(
        context: dg.AssetExecutionContext, pipes: dg.PipesSubprocessClient
    ) -> dg.MaterializeResult:
        """A vector per active user as of the end of the day, by one model version."""
        lake = Lake.of(dataset.name)
        cells, due = [_cell(key) for key in context.partition_keys], DUE in context.run.tags
        if due:  # the range of a request holds cells that are as they should be
            wanted = due_cells(dataset, lake)
            cells = [cell for cell in cells if cell in wanted]
        for start in range(0, len(cells), PROCESS_CELLS):
            part = sorted(cells[start : start + PROCESS_CELLS], key=lambda cell: cell[::-1])
            with lake.staging() as folder, retried(context):
                planned = plan_days(dataset, lake, part, folder, context.log.warning)
                if job := job_of(planned):
                    name = f"embed-{hash_json([[str(day), version] for day, version in part])}"
                    run_program(context, pipes, lake, name, "models.embed", job)
                for each in planned:
                    metadata = publish_day(lake, each)
                    key = cell_key(each.day, each.version)
                    if due:  # what is returned would count for the other cells as well
                        made = dg.AssetMaterialization(
                            context.asset_key, partition=key, metadata=metadata
                        )
                        context.log_event(made)
                    else:
                        context.add_asset_metadata(metadata, partition_key=key)
        return dg.MaterializeResult(metadata={NOT_RECORDED: True} if due else None)

    return user_embeddings


def _cell(key: Any) -> tuple[dt.date, str]:
    parts = key.keys_by_dimension
    return parse_day(parts["day"]), parts["model_version"]


def _embedded_from(dataset: Dataset) -> list[dg.AssetDep]:
    """Events and models: an embedding reads all events before it, by one model version.

    The prediction of a profile reads the behavior features of the day as well.
    """
    models = ["pretrained_encoder", *(f"finetuned_{task.name}" for task in dataset.daily_tasks)]
    read = [before(dataset, "events")]
    read += [before(dataset, BEHAVIOR.name)] if dataset.daily_tasks else []
    return [*read, *(all_days(dataset, name) for name in models)]


class RegistryRun(dg.Config):
    """What a run of the registry may be told."""

    approve: str = ""  # a model version to promote, for `promotion.mode: manual`


def _registry(dataset: Dataset) -> dg.AssetsDefinition:
    key = dg.AssetKey([dataset.slug, "feature_registry"])
    checks = check_specs(
        key,
        {
            "promotion": "Every candidate that was looked at may take the served version's place.",
            "served_models_exist": "Every model version that a service names still has its "
            "checkpoint.",
        },
    )

    @dg.asset(
        key=key,
        group_name=f"{dataset.slug}_{GROUP}",
        owners=OWNERS,
        kinds={"feast"},
        deps=_all(dataset, *_tables(dataset), "user_embeddings", "leaderboard"),
        check_specs=checks,
    )
    def feature_registry(
        context: dg.AssetExecutionContext, config: RegistryRun
    ) -> dg.MaterializeResult:
        """Views and services applied to Feast; candidates held against the versions served now."""
        from features.store import apply_registry, missing_models

        lake = Lake.of(dataset.name)
        if config.approve:
            promote_by_hand(dataset, lake, config.approve, by="the UI")
        decisions = promote_due(dataset, lake, by="feature_registry")
        for decision in decisions:
            context.log.info(f"{decision.alias}: {decision.version or decision.incumbent} "
                             f"{decision.reason}")  # fmt: skip
        report = apply_registry(dataset, lake)
        gone = missing_models(lake)
        return dg.MaterializeResult(
            metadata={
                "views": ", ".join(report.views),
                "services": ", ".join(report.services),
                **{f"alias {alias}": service for alias, service in report.aliases.items()},
                "decisions": dg.MetadataValue.md(decisions_table(decisions)),
                "repository": dg.MetadataValue.path(report.repository),
            },
            check_results=[
                promotion_check(decisions),
                dg.AssetCheckResult(
                    check_name="served_models_exist",
                    passed=not gone,
                    description=f"no checkpoint: {', '.join(gone)}" if gone else None,
                ),
            ],
        )

    return feature_registry


def _similar(dataset: Dataset) -> dg.AssetsDefinition:
    @dg.asset(
        name="similar_users_index",
        key_prefix=dataset.slug,
        group_name=f"{dataset.slug}_{GROUP}",
        owners=OWNERS,
        kinds={"numpy"},
        deps=_all(dataset, "feature_registry", "user_embeddings"),
    )
    def similar_users_index(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        """The newest vectors of the promoted model version, ready to be searched."""
        from features.store.services import REPRESENTATION_SERVICE, known_services
        from features.store.similar import build_index

        lake = Lake.of(dataset.name)
        promoted = known_services(lake).promoted(REPRESENTATION_SERVICE)
        if promoted is None:  # features are served before any model is
            context.log.info("no model version is promoted yet: nothing to index")
            return dg.MaterializeResult(metadata={NOT_RECORDED: True})
        version = promoted.tags["model_version"]
        report = build_index(dataset, lake, version)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": report.users,
                "model_version": version,
                "recall at 10": report.recall,
                "ms a query": report.milliseconds,
                "columns read first": f"{report.columns or report.dim} of {report.dim}",
            }
        )

    return similar_users_index


def _all(dataset: Dataset, *names: str) -> list[dg.AssetDep]:
    known = [name for name in names if name != "leaderboard" or dataset.daily_tasks]
    return [dg.AssetDep(dg.AssetKey([dataset.slug, name])) for name in known]


def _tables(dataset: Dataset) -> list[str]:
    return [table.name for table in feature_tables(dataset)]
