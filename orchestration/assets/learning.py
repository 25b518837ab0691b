"""Labels and training sequences to pre-trained encoders."""

from pathlib import Path

import dagster as dg

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.meanings import LABEL_MEANINGS
from contracts.lake.reading import read_json
from contracts.lake.schemas import LABELS
from contracts.lake.versions import allocate
from models.experiments.cells import local_model
from orchestration.assets.learning_inputs import (
    GROUP,
    OWNERS,
    TRAINING_POOL,
    LearningRun,
    all_days,
    before,
    newest_as_of,
    plottable,
    recipes_of_run,
    shown_picture,
)
from orchestration.catalog import column_schema
from orchestration.experiments.runner import Runner
from orchestration.experiments.store import planner_of
from orchestration.partitions import as_of_days, days_of, model_versions, recipes
from orchestration.runs.retries import retried


def learning_assets(dataset: Dataset) -> list[dg.AssetsDefinition]:
    """Returns `training_sequences`, `pretrained_encoder`, and `labels` where there are tasks."""
    assets = [_training_sequences(dataset), _pretrained_encoder(dataset)]
    return [*assets, _labels(dataset)] if dataset.daily_tasks else assets


def _labels(dataset: Dataset) -> dg.AssetsDefinition:
    @dg.asset(
        name="labels",
        key_prefix=dataset.slug,
        group_name=f"{dataset.slug}_{GROUP}",
        owners=OWNERS,
        kinds={"duckdb", "parquet"},
        deps=[before(dataset, "events")]
        + ([dg.AssetKey([dataset.slug, "users"])] if dataset.users else []),
        partitions_def=as_of_days(dataset),
        backfill_policy=dg.BackfillPolicy.single_run(),
        metadata=column_schema(LABELS, LABEL_MEANINGS),
    )
    def labels(context: dg.AssetExecutionContext) -> None:
        """What is to be predicted of each user as of the end of the day, and the user's split."""
        from features.learning.labels import build_labels

        for day in days_of(context):
            with retried(context):
                report = build_labels(dataset, Lake.of(dataset.name), day)
            for warning in report.warnings:
                context.log.warning(warning)
            context.add_asset_metadata(
                {"dagster/row_count": report.rows}
                | {f"labeled/{task}": count for task, count in report.tasks.items()}
                | {f"snapshots/{task}": days for task, days in report.snapshots.items()},
                partition_key=str(day),
            )

    return labels


def _training_sequences(dataset: Dataset) -> dg.AssetsDefinition:
    @dg.asset(
        name="training_sequences",
        key_prefix=dataset.slug,
        group_name=f"{dataset.slug}_{GROUP}",
        owners=OWNERS,
        kinds={"duckdb", "numpy"},
        deps=[before(dataset, "events")]
        + ([dg.AssetKey([dataset.slug, "items"])] if dataset.items else []),
        partitions_def=as_of_days(dataset),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def training_sequences(context: dg.AssetExecutionContext) -> None:
        """Every user's events before the end of the day, packed, with a frozen vocabulary."""
        from features.learning.sequences import build_sequences

        for day in days_of(context):
            with retried(context):
                report = build_sequences(dataset, Lake.of(dataset.name), day)
            context.add_asset_metadata(
                {
                    "dagster/row_count": report.events,
                    "users": report.users,
                    "fingerprint": report.fingerprint,
                    "train_cutoff": report.train_cutoff,
                },
                partition_key=str(day),
            )

    return training_sequences


def _pretrained_encoder(dataset: Dataset) -> dg.AssetsDefinition:
    @dg.asset(
        name="pretrained_encoder",
        key_prefix=dataset.slug,
        group_name=f"{dataset.slug}_{GROUP}",
        owners=OWNERS,
        kinds={"pytorch"},
        deps=[
            all_days(dataset, "training_sequences"),
            *([all_days(dataset, "labels")] if dataset.learning.validation else []),
        ],
        partitions_def=recipes(dataset),
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=TRAINING_POOL,
    )
    def pretrained_encoder(
        context: dg.AssetExecutionContext, config: LearningRun, pipes: dg.PipesSubprocessClient
    ) -> dg.MaterializeResult:
        """An encoder of user behavior, pre-trained without labels; each run makes a version."""
        lake = Lake.of(dataset.name)
        as_of = config.as_of or newest_as_of(lake)
        wanted = recipes_of_run(dataset, list(context.partition_keys), config)
        planner = planner_of(dataset, lake, wanted, as_of, config.seed, measures=False)
        trainings = {
            named.name: planner.training(named, planner.sources["day"], config.seed)
            for named in planner.comparison.recipes
        }
        versions = {name: allocate(lake, name, job.trial, as_of) for name, job in trainings.items()}
        parts = {job.trial: name for name, job in trainings.items()}
        kept = dataset.automation.keep.unnamed_bytes
        runner = Runner(context, pipes, lake, keep_bytes=kept, partition=parts)
        outcome = runner.run(trainings.values())
        for name, job in trainings.items():
            if job.name not in outcome.done:
                continue
            version = versions[name]
            if dataset.recipes[name].method.trains:  # else it is only compared with, never served
                context.instance.add_dynamic_partitions(
                    str(model_versions(dataset).name), [version.version]
                )
            checkpoint = local_model(lake, job.trial)
            metadata = (
                {"checkpoint": dg.MetadataValue.path(str(checkpoint)), "version": version.version}
                | plottable(read_json(checkpoint / "metrics.json"))
                | _curves(checkpoint)
            )
            if outcome.failed:  # nothing that is returned would count
                made = dg.AssetMaterialization(context.asset_key, partition=name, metadata=metadata)
                context.log_event(made)
            else:
                context.add_asset_metadata(metadata, partition_key=name)
        with retried(context):
            outcome.raise_failures()
        return dg.MaterializeResult()

    return pretrained_encoder


def _curves(checkpoint: Path) -> dict[str, dg.MetadataValue]:
    """Returns loss, gradient norm and health as a picture; of what was not trained, nothing."""
    from models.training.curves import draw_curves

    if not (checkpoint / "curves.parquet").exists():
        return {}
    picture = shown_picture("curves", draw_curves(checkpoint / "curves.parquet"))
    return {"curves": dg.MetadataValue.md(picture)}
