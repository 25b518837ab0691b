"""Labels and training sequences to encoders, task models and the leaderboard."""

import base64
import datetime as dt
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import dagster as dg

from contracts.dataset import Dataset
from contracts.errors import FootpathError
from contracts.lake import Lake, read_json
from contracts.tables import LABELS
from orchestration.gated import column_schema
from orchestration.partitions import days, days_of, model_versions, recipes
from orchestration.programs import run_program, run_side_by_side
from orchestration.versions import ModelVersion, allocate, latest_finished, metric_files

GROUP = "learning"
OWNERS = ["team:data-science"]


def learning_assets(dataset: Dataset) -> list[dg.AssetsDefinition]:
    """Returns everything from `labels` to `leaderboard`."""
    assets = [_training_sequences(dataset), _pretrained_encoder(dataset)]
    if dataset.tasks:
        assets += [_labels(dataset), _task_models(dataset), _baselines(dataset)]
        assets.append(_leaderboard(dataset))
    return assets


def _labels(dataset: Dataset) -> dg.AssetsDefinition:
    @dg.asset(
        name="labels",
        key_prefix=dataset.slug,
        group_name=f"{dataset.slug}_{GROUP}",
        owners=OWNERS,
        kinds={"duckdb", "parquet"},
        deps=[_all_days(dataset, "events")]
        + ([dg.AssetKey([dataset.slug, "users"])] if dataset.users else []),
        partitions_def=days(dataset),
        backfill_policy=dg.BackfillPolicy.single_run(),
        metadata=column_schema(LABELS),
    )
    def labels(context: dg.AssetExecutionContext) -> None:
        """What is to be predicted of each user as of the end of the day, and the user's split."""
        from features.labels import build_labels

        for day in days_of(context):
            report = build_labels(dataset, Lake.of(dataset.name), day)
            for warning in report.warnings:
                context.log.warning(warning)
            context.add_asset_metadata(
                {"dagster/row_count": report.rows}
                | {f"labelled/{task}": count for task, count in report.tasks.items()},
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
        deps=[_all_days(dataset, "events")]
        + ([dg.AssetKey([dataset.slug, "items"])] if dataset.items else []),
        partitions_def=days(dataset),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def training_sequences(context: dg.AssetExecutionContext) -> None:
        """Every user's events before the end of the day, packed, with a frozen vocabulary."""
        from features.sequences import build_sequences

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


class LearningRun(dg.Config):
    """What a run may choose; the data set's YAML says the rest."""

    as_of: str = ""  # a day; by default the newest for which training sequences were built
    seed: int = 0
    epochs: int = 0  # 0: as the YAML says


def _pretrained_encoder(dataset: Dataset) -> dg.AssetsDefinition:
    @dg.asset(
        name="pretrained_encoder",
        key_prefix=dataset.slug,
        group_name=f"{dataset.slug}_{GROUP}",
        owners=OWNERS,
        kinds={"pytorch"},
        deps=[_all_days(dataset, "training_sequences")],
        partitions_def=recipes(dataset),
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool="gpu",
    )
    def pretrained_encoder(
        context: dg.AssetExecutionContext, config: LearningRun, pipes: dg.PipesSubprocessClient
    ) -> dg.MaterializeResult:
        """An encoder of user behaviour, pre-trained without labels; each run makes a version."""
        lake = Lake.of(dataset.name)
        as_of = config.as_of or newest_as_of(lake)
        pointer = lake.root / "sequences" / f"{as_of}.json"
        data = read_json(pointer)["fingerprint"]
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
                "epochs": config.epochs or dataset.learning.epochs,
                "seed": config.seed,
            }
            version = allocate(lake, recipe, as_of, settings | {"fingerprint": data})
            settings |= {"version": version.version, "out": version.folder(lake)}
            work.append(partial(_train, context, pipes, lake, settings))
            versions.append(version)
        for version, result in zip(versions, run_side_by_side(work), strict=True):
            context.instance.add_dynamic_partitions(
                str(model_versions(dataset).name), [version.version]
            )
            context.add_asset_metadata(
                {"checkpoint": dg.MetadataValue.path(version.folder(lake))} | _plottable(result),
                partition_key=version.recipe,
            )
        return dg.MaterializeResult()

    return pretrained_encoder


def _task_models(dataset: Dataset) -> dg.AssetsDefinition:
    # One asset a task, all made by one process: what they share is the encoder that it loads.
    specs = {
        task.name: dg.AssetSpec(
            dg.AssetKey([dataset.slug, f"finetuned_{task.name}"]),
            group_name=f"{dataset.slug}_{GROUP}",
            owners=OWNERS,
            kinds={"pytorch"},
            deps=[dg.AssetKey([dataset.slug, "pretrained_encoder"]), _all_days(dataset, "labels")],
            description=f"Task model and metrics of `{task.name}`: frozen probe and fine-tuned.",
            partitions_def=recipes(dataset),
        )
        for task in dataset.tasks
    }

    @dg.multi_asset(
        name=f"{dataset.slug}_finetuned",
        specs=list(specs.values()),
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool="gpu",
    )
    def finetuned(
        context: dg.AssetExecutionContext, pipes: dg.PipesSubprocessClient
    ) -> Iterator[dg.MaterializeResult]:
        lake = Lake.of(dataset.name)
        wanted = [t for t in dataset.tasks if specs[t.name].key in context.selected_asset_keys]
        versions = [_finished(dataset, lake, recipe) for recipe in context.partition_keys]
        work = [
            partial(
                _finetune,
                context,
                pipes,
                lake,
                _task_inputs(dataset, lake, version.as_of, wanted)
                | {"epochs": dataset.learning.finetune_epochs},
                version,
            )
            for version in versions
        ]
        found: dict[str, dict[str, dict]] = {task.name: {} for task in wanted}
        for version, result in zip(versions, run_side_by_side(work), strict=True):
            for task in wanted:
                found[task.name][version.recipe] = {"model_version": version.version} | {
                    key.split("/", 1)[1]: value
                    for key, value in _plottable(result).items()
                    if key.startswith(f"{task.name}/")
                }
        for task in wanted:
            key = specs[task.name].key
            for recipe, metadata in found[task.name].items():
                context.add_asset_metadata(metadata, asset_key=key, partition_key=recipe)
            yield dg.MaterializeResult(asset_key=key)

    return finetuned


def _train(
    context: dg.AssetExecutionContext,
    pipes: dg.PipesSubprocessClient,
    lake: Lake,
    settings: dict,
    machine: dict,
) -> dict:
    return run_program(context, pipes, lake, "models.train", settings | machine)


def _finetune(
    context: dg.AssetExecutionContext,
    pipes: dg.PipesSubprocessClient,
    lake: Lake,
    inputs: dict,
    version: ModelVersion,
    machine: dict,
) -> dict:
    scratch = version.recipe.startswith("none_")
    settings = inputs | {
        "checkpoint": version.folder(lake),
        "out": str(lake.single(f"metrics/{version.version}")),
        "model_out": str(lake.root / "task_models" / version.version),
        "protocols": ["frozen", "scratch" if scratch else "finetuned"],
    }
    return run_program(context, pipes, lake, "models.finetune", settings | machine)


def _finished(dataset: Dataset, lake: Lake, recipe: str) -> ModelVersion:
    version = latest_finished(lake, recipe)
    if version is None:
        raise FootpathError(
            f"recipe {recipe} of data set '{dataset.name}' has no finished model version: "
            f"materialize pretrained_encoder for it first"
        )
    return version


def _baselines(dataset: Dataset) -> dg.AssetsDefinition:
    @dg.asset(
        name="task_baselines",
        key_prefix=dataset.slug,
        group_name=f"{dataset.slug}_{GROUP}",
        owners=OWNERS,
        kinds={"scikitlearn"},
        deps=[_all_days(dataset, "training_sequences"), _all_days(dataset, "labels")],
    )
    def task_baselines(
        context: dg.AssetExecutionContext, config: LearningRun, pipes: dg.PipesSubprocessClient
    ) -> dg.MaterializeResult:
        """What to beat: the majority class, and logistic regression on TF-IDF of the items."""
        lake = Lake.of(dataset.name)
        inputs = _task_inputs(dataset, lake, config.as_of or newest_as_of(lake), dataset.tasks)
        out = str(lake.single("metrics/baselines"))
        result = run_program(context, pipes, lake, "models.baselines", {**inputs, "out": out})
        return dg.MaterializeResult(metadata=_plottable(result))

    return task_baselines


def _leaderboard(dataset: Dataset) -> dg.AssetsDefinition:
    @dg.asset(
        name="leaderboard",
        key_prefix=dataset.slug,
        group_name=f"{dataset.slug}_{GROUP}",
        owners=OWNERS,
        kinds={"matplotlib"},
        deps=[
            dg.AssetKey([dataset.slug, "task_baselines"]),
            *[dg.AssetKey([dataset.slug, f"finetuned_{task.name}"]) for task in dataset.tasks],
        ],
    )
    def leaderboard() -> dg.MaterializeResult:
        """Method x encoder x task x label share: mean and spread over seeds, table and plot."""
        from models.leaderboard import collect, plot, to_markdown, write_html

        lake = Lake.of(dataset.name)
        table = collect(metric_files(lake, dataset.learning.recipes))
        folder = lake.root / "leaderboard"
        folder.mkdir(parents=True, exist_ok=True)
        plot(table, folder / "leaderboard.png")
        write_html(table, folder / "leaderboard.png", folder / "leaderboard.html")
        markdown = to_markdown(table)
        (folder / "leaderboard.md").write_text(markdown)
        return dg.MaterializeResult(
            metadata={
                "table": dg.MetadataValue.md(markdown),
                "plot": dg.MetadataValue.md(_image(folder / "leaderboard.png")),
                "page": dg.MetadataValue.path(str(folder / "leaderboard.html")),
                "dagster/row_count": table.num_rows,
            }
        )

    return leaderboard


def newest_as_of(lake: Lake) -> str:
    """Returns the newest day for which training sequences were built.

    Raises:
      FootpathError: there are none.
    """
    stems = [path.stem for path in (lake.root / "sequences").glob("*.json")]
    found = sorted(stem for stem in stems if _is_day(stem))
    if not found:
        raise FootpathError(
            f"{lake.root / 'sequences'} has no training sequences: "
            f"materialize training_sequences for a day first"
        )
    return found[-1]


def _is_day(text: str) -> bool:
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _task_inputs(dataset: Dataset, lake: Lake, as_of: str, tasks: list) -> dict:
    return {
        "sequences": str(lake.root / "sequences" / f"{as_of}.json"),
        "labels": str(lake.day("labels", dt.date.fromisoformat(as_of))),
        "tasks": [{"name": t.name, "kind": t.kind, "metric": t.metric} for t in tasks],
        "label_shares": list(dataset.learning.label_shares),
        "seeds": dataset.learning.seeds,
    }


def _all_days(dataset: Dataset, name: str) -> dg.AssetDep:
    """Depends on every day there is: what is read ends with the as-of."""
    return dg.AssetDep(
        dg.AssetKey([dataset.slug, name]), partition_mapping=dg.AllPartitionMapping()
    )


def _plottable(result: dict) -> dict:
    """Returns the numbers and short texts of a program's result, as Dagster plots them."""
    return {
        key: value
        for key, value in result.items()
        if isinstance(value, int | float | str) and not isinstance(value, bool) and key != "kind"
    }


def _image(path: Path) -> str:
    return f"![leaderboard](data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()})"
