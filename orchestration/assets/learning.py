"""Labels and training sequences to pre-trained encoders."""

from functools import partial
from pathlib import Path

import dagster as dg

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.reading import read_json
from contracts.lake.schemas import LABELS
from orchestration.assets.learning_inputs import (
    GROUP,
    OWNERS,
    LearningRun,
    all_days,
    identity_of,
    newest_as_of,
    plottable,
    shown_picture,
    validation_of,
)
from orchestration.partitions import days, days_of, model_versions, recipes
from orchestration.programs import run_program, run_side_by_side
from orchestration.versions import allocate
from orchestration.write_audit_publish import column_schema


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
        # Of the same day, though all before it are read too: else a backfill builds every day.
        deps=[dg.AssetKey([dataset.slug, "events"])]
        + ([dg.AssetKey([dataset.slug, "users"])] if dataset.users else []),
        partitions_def=days(dataset),
        backfill_policy=dg.BackfillPolicy.single_run(),
        metadata=column_schema(LABELS),
    )
    def labels(context: dg.AssetExecutionContext) -> None:
        """What is to be predicted of each user as of the end of the day, and the user's split."""
        from features.learning.labels import build_labels

        for day in days_of(context):
            report = build_labels(dataset, Lake.of(dataset.name), day)
            for warning in report.warnings:
                context.log.warning(warning)
            context.add_asset_metadata(
                {"dagster/row_count": report.rows}
                | {f"labeled/{task}": count for task, count in report.tasks.items()},
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
        deps=[dg.AssetKey([dataset.slug, "events"])]
        + ([dg.AssetKey([dataset.slug, "items"])] if dataset.items else []),
        partitions_def=days(dataset),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def training_sequences(context: dg.AssetExecutionContext) -> None:
        """Every user's events before the end of the day, packed, with a frozen vocabulary."""
        from features.learning.sequences import build_sequences

        for day in days_of(context):
            report = build_sequences(dataset, Lake.of(dataset.name), day)
            context.add_asset_metadata(
                {
                    "dagster/row_count": report.events,
                    "users": report.users,
                    "fingerprint": report.fingerprint[:12],
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
        pool="gpu",
    )
    def pretrained_encoder(
        context: dg.AssetExecutionContext, config: LearningRun, pipes: dg.PipesSubprocessClient
    ) -> dg.MaterializeResult:
        """An encoder of user behavior, pre-trained without labels; each run makes a version."""
        lake = Lake.of(dataset.name)
        as_of = config.as_of or newest_as_of(lake)
        pointer = lake.root / "sequences" / f"{as_of}.json"
        data = read_json(pointer)["fingerprint"]
        judge = validation_of(dataset, lake, as_of, config)
        work, versions = [], []
        for recipe in context.partition_keys:
            method, encoder = recipe.split("_", 1)
            settings = {
                "sequences": str(pointer),
                "recipe": recipe,
                "method": method,
                "encoder": encoder,
                "dim": dataset.learning.dim,
                "max_length": dataset.learning.max_length,
                "epochs": dataset.learning.epochs,
                "seed": config.seed,
            } | dataset.learning.settings.get(recipe, {})
            if judge and method != "none":
                settings["validation"] = judge
            if config.epochs:
                settings["epochs"] = config.epochs
            version = allocate(lake, recipe, as_of, identity_of(lake, settings, data))
            settings |= {"version": version.version, "out": version.folder(lake)}
            work.append(partial(_train, context, pipes, lake, settings))
            versions.append(version)
        for version, result in zip(versions, run_side_by_side(work), strict=True):
            context.instance.add_dynamic_partitions(
                str(model_versions(dataset).name), [version.version]
            )
            context.add_asset_metadata(
                {"checkpoint": dg.MetadataValue.path(version.folder(lake))}
                | plottable(result)
                | _curves(Path(result["checkpoint"])),
                partition_key=version.recipe,
            )
        return dg.MaterializeResult()

    return pretrained_encoder


def _curves(checkpoint: Path) -> dict[str, dg.MetadataValue]:
    """Returns loss, gradient norm and health as a picture; of what was not trained, nothing."""
    from models.training.curves import draw_curves

    if not (checkpoint / "curves.parquet").exists():
        return {}
    picture = shown_picture("curves", draw_curves(checkpoint / "curves.parquet"))
    return {"curves": dg.MetadataValue.md(picture)}


def _train(
    context: dg.AssetExecutionContext,
    pipes: dg.PipesSubprocessClient,
    lake: Lake,
    settings: dict,
    machine: dict,
) -> dict:
    return run_program(context, pipes, lake, "models.train", settings | machine)
