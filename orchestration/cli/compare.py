"""`footpath compare`: measure methods, encoders and tasks against each other, resumably."""

import re
import time
from pathlib import Path
from typing import Annotated

import typer

from contracts.base.errors import FootpathError
from contracts.config.comparison import Asked, Comparison, comparison_of
from contracts.config.dataset import Dataset, load_dataset
from contracts.lake.copies import local_copy
from contracts.lake.layout import Lake
from orchestration.cli.output import echo


def compare(
    dataset: Annotated[str, typer.Option("--dataset", help="its name in datasets/")] = "shop",
    methods: Annotated[str, typer.Option(help="such as ptum,barlow")] = "",
    encoders: Annotated[str, typer.Option(help="such as bag,gru4rec: each with each method")] = "",
    recipes: Annotated[Path | None, typer.Option(help="a YAML file of named settings")] = None,
    tasks: Annotated[str, typer.Option(help="by default all of the data set")] = "",
    labels: Annotated[str, typer.Option(help="percentages of the labels, such as 5,20,100")] = "",
    seeds: Annotated[int, typer.Option(help="of training, labels, split; 0: YAML's")] = 0,
    folds: Annotated[
        int, typer.Option(min=0, help="cross-validation: each user is a test user of one fold")
    ] = 0,
    protocols: Annotated[str, typer.Option(help="of frozen,finetuned,scratch,native")] = "",
    batch_sizes: Annotated[str, typer.Option(help="of pre-training, such as 16,64,256")] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value: epochs=20, method.x=1, finetuning.epochs=3"),
    ] = None,
    features: Annotated[bool, typer.Option(help="heads see behavior features as well")] = True,
    data: Annotated[str, typer.Option(help="folder or URL of the source files")] = "",
    workers: Annotated[int, typer.Option(min=0, help="processes at a time; 0: as fits")] = 1,
    keep_gb: Annotated[float, typer.Option(min=0, help="of checkpoints to keep")] = 2.0,
    same_code: Annotated[
        bool, typer.Option("--same-code", help="measure again what other code has measured")
    ] = False,
    name: Annotated[
        str, typer.Option(help="of the board; by default the file's or dataset's")
    ] = "",
    into: Annotated[
        Path | None, typer.Option(help="a Markdown file to put the tables into")
    ] = None,
    parts: Annotated[
        int, typer.Option(min=1, help="plan so many partitions, to launch on several machines")
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only list what would run; builds the data")
    ] = False,
) -> None:
    """Compare pre-training methods, encoders and baselines on a data set's tasks.

    What is measured once is not measured again: stop it, run it again, add a method or a label
    share, and only what is new is run.
    """
    if into and (into.is_dir() or not into.parent.is_dir()):
        raise FootpathError(f"--into {into}: give a Markdown file in a folder that is there")
    config = load_dataset(dataset)
    asked = Asked(
        methods=_words(methods),
        encoders=_words(encoders),
        tasks=_words(tasks),
        shares=tuple(share / 100 for share in _numbers("--labels", labels, float)),
        seeds=seeds,
        folds=folds,
        protocols=_words(protocols),
        settings=tuple(settings or ()),
        recipes=recipes,
        batch_sizes=_numbers("--batch-sizes", batch_sizes, int),
        features=features,
    )
    comparison = comparison_of(config, asked)
    if data:
        from contracts.config.sources import link_source

        link_source(dataset, data)
    name = name or _name(asked, dataset)
    if not re.fullmatch(r"[\w-]+", name):
        raise FootpathError(f"--name {name}: give letters, digits, dashes and underscores")
    settings_of_run = {"workers": workers, "keep_gb": keep_gb, "same_code": same_code}
    if parts > 1:
        plan_parts(config, name, comparison, parts)
        return
    run_comparison(config, name, comparison, settings_of_run, dry_run, into)


def plan_parts(dataset: Dataset, name: str, comparison: Comparison, parts: int) -> None:
    """Plans a comparison as partitions of the asset `comparison`, for who launches them."""
    from orchestration.experiments.store import part_keys, write_comparison
    from orchestration.instance import open_instance
    from orchestration.partitions import comparisons

    write_comparison(Lake.of(dataset.name), name, comparison)
    keys = part_keys(name, parts)
    with open_instance() as instance:
        instance.add_dynamic_partitions(str(comparisons(dataset).name), [*keys, name])
    echo(
        f"launch a backfill of {dataset.slug}/comparison over {keys[0]} to {keys[-1]}, a run each; "
        f"then {name}, which shows what they have measured"
    )


def run_comparison(
    dataset: Dataset,
    name: str,
    comparison: Comparison,
    settings: dict,
    dry_run: bool = False,
    into: Path | None = None,
) -> None:
    """Plans a comparison, runs it as a partition of the asset `comparison`, and tells the page.

    Raises:
      FootpathError: a job failed; what the others have measured is shown all the same.
    """
    from orchestration.chain import Stage, run_stage
    from orchestration.definitions import open_runner
    from orchestration.experiments.store import comparison_folder, planned, write_comparison
    from orchestration.partitions import comparisons
    from orchestration.progress import TerminalProgress

    began, lake = time.time(), Lake.of(dataset.name)
    _build_events(dataset)
    if dry_run:
        for job in planned(dataset, lake, comparison, echo).jobs:
            echo(f"  {job.title}")
        return
    write_comparison(lake, name, comparison)
    stage = Stage(
        "comparison", f"Comparison {name}", name, name,
        {"ops": {f"{dataset.slug}__comparison": {"config": settings}}},
    )  # fmt: skip
    fault = None
    with open_runner(dataset, {"progress": TerminalProgress()}) as runner:
        runner.instance.add_dynamic_partitions(str(comparisons(dataset).name), [name])
        try:
            run_stage(runner, stage)
        except FootpathError as error:
            fault = error
    folder = local_copy(lake, comparison_folder(lake, name))
    page, table = (folder / f"{name}.{suffix}" for suffix in ("html", "md"))
    if page.exists() and page.stat().st_mtime >= began - 1:
        echo(f"{page} ({time.time() - began:.0f} s)")
        if into:
            from models.experiments.results import put_into

            put_into(into, name, table.read_text(encoding="utf-8"))
    if fault:
        raise fault


def _build_events(dataset: Dataset) -> None:
    """Runs the chain up to the daily tables where no event is published yet."""
    from orchestration.chain import WholeChain, run_chain
    from orchestration.definitions import open_runner

    if Lake.of(dataset.name).days("events"):
        return
    echo(f"data set '{dataset.name}' has no events yet: building them")
    with open_runner(dataset) as runner:
        run_chain(runner, WholeChain(until="daily"), echo)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(option: str, text: str, kind: type) -> tuple:
    try:
        return tuple(kind(word) for word in _words(text))
    except ValueError:
        raise FootpathError(f"{option} {text}: give numbers, separated by commas") from None


def _name(asked: Asked, dataset: str) -> str:
    return asked.recipes.stem if asked.recipes else dataset
