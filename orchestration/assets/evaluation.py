"""Encoders and labels to task models, baselines and the leaderboard."""

import datetime as dt
import re
from collections.abc import Iterator
from functools import partial

import dagster as dg

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.copies import local_copy
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file
from orchestration.assets.learning_inputs import (
    GROUP,
    OWNERS,
    LearningRun,
    all_days,
    newest_as_of,
    plottable,
    shown_picture,
)
from orchestration.compare.recipes import SHAPE
from orchestration.partitions import recipes
from orchestration.programs import run_program, run_side_by_side
from orchestration.promotion import leader
from orchestration.versions import ModelVersion, latest_finished, measured_files


def evaluation_assets(dataset: Dataset) -> list[dg.AssetsDefinition]:
    """Returns `finetuned_<task>`, `task_baselines` and `leaderboard`, where there are tasks."""
    if not dataset.daily_tasks:
        return []
    return [_task_models(dataset), _baselines(dataset), _leaderboard(dataset)]


def _task_models(dataset: Dataset) -> dg.AssetsDefinition:
    # One asset a task, all made by one process: what they share is the encoder that it loads.
    specs = {
        task.name: dg.AssetSpec(
            dg.AssetKey([dataset.slug, f"finetuned_{task.name}"]),
            group_name=f"{dataset.slug}_{GROUP}",
            owners=OWNERS,
            kinds={"pytorch"},
            deps=[dg.AssetKey([dataset.slug, "pretrained_encoder"]), all_days(dataset, "labels")],
            description=f"Task model and metrics of `{task.name}`: frozen probe and fine-tuned.",
            partitions_def=recipes(dataset),
        )
        for task in dataset.daily_tasks
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
        wanted = [
            t for t in dataset.daily_tasks if specs[t.name].key in context.selected_asset_keys
        ]
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
                    for key, value in plottable(result).items()
                    if key.startswith(f"{task.name}/")
                }
        for task in wanted:
            key = specs[task.name].key
            for recipe, metadata in found[task.name].items():
                context.add_asset_metadata(metadata, asset_key=key, partition_key=recipe)
            yield dg.MaterializeResult(asset_key=key)

    return finetuned


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
        "predictions": str(lake.single(f"predictions/{version.version}")),
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
        deps=[all_days(dataset, "training_sequences"), all_days(dataset, "labels")],
    )
    def task_baselines(
        context: dg.AssetExecutionContext, config: LearningRun, pipes: dg.PipesSubprocessClient
    ) -> dg.MaterializeResult:
        """What to beat: the majority class, and logistic regression on TF-IDF of the items."""
        lake = Lake.of(dataset.name)
        inputs = _task_inputs(
            dataset, lake, config.as_of or newest_as_of(lake), dataset.daily_tasks
        )
        written = {
            "out": str(lake.single("metrics/baselines")),
            "predictions": str(lake.single("predictions/baselines")),
        }
        result = run_program(context, pipes, lake, "models.baselines", inputs | written)
        return dg.MaterializeResult(metadata=plottable(result))

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
            *[
                dg.AssetKey([dataset.slug, f"finetuned_{task.name}"])
                for task in dataset.daily_tasks
            ],
        ],
    )
    def leaderboard() -> dg.MaterializeResult:
        """Method x encoder x task x label share: mean and spread over seeds, table and plot."""
        from models.leaderboard import collect, plot, to_markdown, write_html
        from models.leaderboard.markdown import LEGEND
        from models.leaderboard.significance import BY_USERS, differences, marks
        from models.metrics.predictions import read_predictions

        lake, wanted = Lake.of(dataset.name), dataset.learning.recipes
        metrics, predicted = (
            [local_copy(lake, path) for path in measured_files(lake, wanted, name)]
            for name in ("metrics", "predictions")
        )
        table, runs = collect(metrics), read_predictions(predicted)
        folder = lake.root / "leaderboard"
        # Seeds share one split of the users here, so they cannot tell what is luck of the split.
        compared = differences(table, runs, scratch_rows(dataset)).items()
        found = marks({key: each for key, each in compared if each.how == BY_USERS})
        best = leader(dataset, lake, is_embedded=False)
        notes = [f"{best}. The figures below are of the test users."] if best else []
        markdown = "\n\n".join([*notes, LEGEND, to_markdown(table, found)])
        with lake.staging() as staging:
            (staging / "leaderboard.md").write_text(markdown)
            plot(table, staging / "leaderboard.png")
            picture = shown_picture("leaderboard", (staging / "leaderboard.png").read_bytes())
            pictures = {"Metric against the share of labels": staging / "leaderboard.png"}
            write_html(table, pictures, staging / "leaderboard.html", found, notes)
            for staged in sorted(staging.iterdir()):
                publish_file(staged, folder / staged.name)
        return dg.MaterializeResult(
            metadata={
                "table": dg.MetadataValue.md(markdown),
                "plot": dg.MetadataValue.md(picture),
                "page": dg.MetadataValue.path(str(folder / "leaderboard.html")),
                "dagster/row_count": table.num_rows,
                "leader": str(best or "none"),
            }
            | _compared(lake)
        )

    return leaderboard


def scratch_rows(dataset: Dataset) -> dict[tuple[str, str], str]:
    """Returns by method and encoder the method of its encoder from scratch, if of one shape."""

    def shape(recipe: str) -> dict:
        settings = dataset.learning.settings.get(recipe, {})
        return {name: value for name, value in settings.items() if name in SHAPE}

    parted = [recipe.split("_", 1) for recipe in dataset.learning.recipes]
    return {
        (method, encoder): "none"
        for method, encoder in parted
        if shape(f"{method}_{encoder}") == shape(f"none_{encoder}")
    }


def _compared(lake: Lake) -> dict[str, dg.MetadataValue]:
    """Returns the tables and pictures of `footpath compare`, so that the UI has them too."""
    folder, shown = lake.work / "compare" / "boards", {}
    for path in sorted(folder.glob("*.md")):
        name = re.sub(r"[^A-Za-z0-9_]", "_", path.stem)
        pictures = [
            shown_picture(picture.stem, picture.read_bytes())
            for picture in sorted(folder.glob(f"{path.stem}-*.png"))
        ]
        shown[f"compare_{name}"] = dg.MetadataValue.md("\n\n".join([path.read_text(), *pictures]))
        shown[f"compare_{name}_page"] = dg.MetadataValue.path(str(path.with_suffix(".html")))
    return shown


def _task_inputs(dataset: Dataset, lake: Lake, as_of: str, tasks: list) -> dict:
    return {
        "sequences": str(lake.root / "sequences" / f"{as_of}.json"),
        "labels": str(lake.day("labels", dt.date.fromisoformat(as_of))),
        "tasks": [t.settings() for t in tasks],
        "label_shares": list(dataset.learning.label_shares),
        "seeds": dataset.learning.seeds,
    }
