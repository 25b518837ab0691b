"""Encoders and labels to task models, baselines, the leaderboard, and comparisons."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import dagster as dg

from contracts.base.errors import FootpathError
from contracts.config.comparison import Comparison, yaml_comparison
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.reading import read_table
from contracts.lake.versions import ModelVersion, latest_finished, version_named
from models.experiments.cells import Measured, keep_measured, read_measured
from models.experiments.planning import Plan
from orchestration.assets.learning_inputs import (
    GROUP,
    OWNERS,
    TRAINING_POOL,
    LearningRun,
    all_days,
    newest_as_of,
    plottable,
    shown_picture,
)
from orchestration.catalog import page
from orchestration.experiments.runner import KEEP_BYTES, Runner
from orchestration.experiments.store import (
    board_inputs,
    board_names,
    comparison_folder,
    keep_board_inputs,
    not_measured,
    parse_part,
    plan_of_served,
    planned,
    planner_of,
    planner_of_version,
    read_comparison,
)
from orchestration.partitions import comparisons, model_versions, recipes
from orchestration.progress import Progress
from orchestration.promotion.candidates import leader, name_task_model
from orchestration.promotion.decision import unmeasured_incumbent
from orchestration.promotion.judging import SERVED
from orchestration.runs.retries import retried


def evaluation_assets(dataset: Dataset) -> list[dg.AssetsDefinition]:
    """`finetuned_<task>`, `task_baselines` and `leaderboard`, and `comparison`, of tasks."""
    found = [_comparison(dataset)] if dataset.tasks else []
    if not dataset.daily_tasks:
        return found
    return [_task_models(dataset), _baselines(dataset), _leaderboard(dataset), *found]


def _task_models(dataset: Dataset) -> dg.AssetsDefinition:
    # One asset a task, all made by one process: what they share is the encoder that it loads.
    specs = {
        task.name: dg.AssetSpec(
            dg.AssetKey([dataset.slug, f"finetuned_{task.name}"]),
            group_name=f"{dataset.slug}_{GROUP}",
            owners=OWNERS,
            kinds={"pytorch"},
            deps=[dg.AssetKey([dataset.slug, "pretrained_encoder"]), all_days(dataset, "labels")],
            description=(
                f"Task models of `{task.name}`: frozen probe, profile and fine-tuned; the best of "
                f"the latter two, by validation users, becomes a model version."
            ),
            partitions_def=recipes(dataset),
        )
        for task in dataset.daily_tasks
    }

    @dg.multi_asset(
        name=f"{dataset.slug}_finetuned",
        specs=list(specs.values()),
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=TRAINING_POOL,
    )
    def finetuned(
        context: dg.AssetExecutionContext, pipes: dg.PipesSubprocessClient
    ) -> Iterator[dg.MaterializeResult]:
        lake = Lake.of(dataset.name)
        wanted = [
            t.name for t in dataset.daily_tasks if specs[t.name].key in context.selected_asset_keys
        ]
        versions = {name: _finished(dataset, lake, name) for name in context.partition_keys}
        plans = {n: planner_of_version(dataset, lake, v).plan() for n, v in versions.items()}
        jobs = [
            job
            for plan in plans.values()
            for job in plan.jobs
            if job.trial and {cell.task for cell in job.cells} & {*wanted}
        ]
        trainings = [job.needs for job in jobs if job.needs]
        runner = Runner(context, pipes, lake, keep_bytes=dataset.automation.keep.unnamed_bytes)
        outcome = runner.run([*dict.fromkeys(trainings), *jobs])
        with retried(context):
            outcome.raise_failures()
        kept = {name: [e for e in plan.measured if e.recipe] for name, plan in plans.items()}
        for recipe, measured in kept.items():
            keep_measured(lake, versions[recipe].version, measured)
        for task in wanted:
            key = specs[task].key
            for recipe, measured in kept.items():
                context.add_asset_metadata(
                    {"model_version": versions[recipe].version} | _figures(measured, task),
                    asset_key=key,
                    partition_key=recipe,
                )
            if named := name_task_model(dataset, lake, task):
                partitions = str(model_versions(dataset).name)
                context.instance.add_dynamic_partitions(partitions, [named.version])
                context.log.info(f"{task}: the best model is {named.version}")
            yield dg.MaterializeResult(asset_key=key)

    return finetuned


def _finished(dataset: Dataset, lake: Lake, recipe: str) -> ModelVersion:
    version = latest_finished(lake, recipe)
    if version is None:
        raise FootpathError(
            f"recipe {recipe} of data set '{dataset.name}' has no finished model version: "
            f"materialize pretrained_encoder for it first"
        )
    return version


def _figures(measured: list[Measured], task: str) -> dict:
    """Mean figures of a task over seeds, by metric, protocol (or baseline) and label share."""
    values: dict[str, list[float]] = {}
    for each in measured:
        for cell in each.cells if each.task == task else ():
            for row in read_table(cell.path).to_pylist():
                shown = each.recipe is None or row["inputs"] == "embedding"
                if shown and row["value"] is not None:
                    who = row["protocol"] if each.recipe else row["method"]
                    name = f"{row['metric']}/{who}/{row['label_share']:g}"
                    values.setdefault(name, []).append(row["value"])
    return plottable({name: sum(each) / len(each) for name, each in values.items()})


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
        """What to beat: the majority class, linear models on items and on features, what is served.

        The promoted encoder is measured on the labels of this day too, to be held against a newer.
        """
        lake = Lake.of(dataset.name)
        as_of = config.as_of or newest_as_of(lake)
        plan = planner_of(dataset, lake, {}, as_of, config.seed).plan()
        served = unmeasured_incumbent(dataset, lake, as_of)
        again = (
            plan_of_served(dataset, lake, version_named(lake, served), as_of) if served else None
        )
        with retried(context):
            runner = Runner(context, pipes, lake, keep_bytes=dataset.automation.keep.unnamed_bytes)
            runner.run([*plan.jobs, *(again.jobs if again else [])]).raise_failures()
        keep_measured(lake, "baselines", plan.measured)
        if again:
            keep_measured(lake, SERVED, again.measured)
        return dg.MaterializeResult(
            metadata={
                f"{task.name}/{name}": value
                for task in dataset.daily_tasks
                for name, value in _figures(plan.measured, task.name).items()
            }
        )

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
        lake = Lake.of(dataset.name)
        names, made_from = board_names(dataset, lake), board_inputs(dataset, lake)
        if len(names) == 1:
            raise FootpathError(
                f"data set '{dataset.name}' has no finished model version: "
                f"materialize pretrained_encoder first"
            )
        measured = [each for name in names for each in read_measured(lake, name)]
        recipes = {e.recipe.name: e.recipe.recipe for e in measured if e.recipe}
        comparison = yaml_comparison(dataset, recipes)
        best = leader(dataset, lake)
        notes = [f"{best}. The figures below are of the test users."] if best else []
        lacking = not_measured(dataset, lake, newest_as_of(lake))
        notes += [f"{task} needs more users: {why}." for task, why in lacking.items()]
        result = _shown(Plan(measured, []), comparison, lake, lake.root / "leaderboard", notes)
        keep_board_inputs(lake, made_from)
        return result

    return leaderboard


class ComparisonRun(dg.Config):
    """How a comparison is run."""

    workers: int = 0  # processes at a time; 0: as fits this machine
    keep_gb: float = KEEP_BYTES / 1e9  # of checkpoints without a name
    same_code: bool = False  # measures again what other code has measured


def _comparison(dataset: Dataset) -> dg.AssetsDefinition:
    @dg.asset(
        name="comparison",
        key_prefix=dataset.slug,
        group_name=f"{dataset.slug}_{GROUP}",
        owners=OWNERS,
        kinds={"pytorch", "matplotlib"},
        deps=[all_days(dataset, "events")],
        partitions_def=comparisons(dataset),
        pool=TRAINING_POOL,
    )
    def comparison(
        context: dg.AssetExecutionContext,
        config: ComparisonRun,
        pipes: dg.PipesSubprocessClient,
        progress: Progress,
    ) -> dg.MaterializeResult:
        """Pre-training methods, encoders and baselines against each other, by one partition's plan.

        `footpath compare` writes the plan; what is measured already is not measured again. The
        partitions of its parts, run on several machines, measure what the whole then shows.
        """
        lake, say = Lake.of(dataset.name), partial(progress.say, context)
        name, part, parts = parse_part(context.partition_key)
        asked = read_comparison(lake, name)
        plan = planned(dataset, lake, asked, say, config.same_code)
        jobs = [job for job in plan.jobs if job.part_of(parts) == part]
        runner = Runner(context, pipes, lake, config.workers, config.keep_gb * 1e9, say)
        outcome = runner.run(jobs)
        if parts > 1:  # the partition of the whole shows what all parts have measured
            with retried(context):
                outcome.raise_failures()
            return dg.MaterializeResult(metadata={"jobs": len(jobs)})
        for title, sentence in outcome.failed.items():
            context.log.error(f"{title}: {sentence}")
        say("tables and pictures")
        folder = comparison_folder(lake, name)
        result = _shown(plan, asked, lake, folder, [], say)
        with retried(context):
            outcome.raise_failures()
        return result

    return comparison


def _shown(
    plan: Plan,
    comparison: Comparison,
    lake: Lake,
    folder: Path,
    notes: list[str],
    say: Callable[[str], object] = str,
) -> dg.MaterializeResult:
    """Publishes the board of what is measured, says the best of each task, and shows it all."""
    from models.experiments.results import collect, markdown, summary, write

    results = collect(plan, comparison, notes)
    paths = write(results, plan, comparison, lake, folder)
    for line in summary(results):
        say(line)
    pictures = {
        picture.stem.removeprefix(f"{folder.name}-"): dg.MetadataValue.md(
            shown_picture(picture.stem, picture.read_bytes())
        )
        for picture in sorted(folder.glob("*.png"))
    }
    return dg.MaterializeResult(
        metadata={
            "table": dg.MetadataValue.md(markdown(results, comparison)),
            "page": page(paths["html"]),
            "dagster/row_count": results.table.num_rows,
            "cells not measured": results.missing,
            **pictures,
        }
    )
