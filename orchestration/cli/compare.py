"""`footpath compare`: measure methods, encoders and tasks against each other, resumably."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contracts.base.errors import FootpathError
from contracts.config.dataset import load_dataset
from contracts.lake.layout import Lake

if TYPE_CHECKING:
    from orchestration.compare.settings import Asked, Comparison


def compare(
    dataset: Annotated[str, typer.Option("--dataset", help="its name in datasets/")] = "shop",
    methods: Annotated[str, typer.Option(help="such as ptum,barlow")] = "",
    encoders: Annotated[str, typer.Option(help="such as bag,gru4rec: each with each method")] = "",
    recipes: Annotated[Path | None, typer.Option(help="a YAML file of named settings")] = None,
    tasks: Annotated[str, typer.Option(help="by default all of the data set")] = "",
    labels: Annotated[str, typer.Option(help="percentages of the labels, such as 5,20,100")] = "",
    seeds: Annotated[int, typer.Option(help="of training, labels, split; 0: YAML's")] = 0,
    protocols: Annotated[str, typer.Option(help="of frozen,finetuned,scratch,native")] = "",
    batch_sizes: Annotated[str, typer.Option(help="of pre-training, such as 16,64,256")] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value: epochs=20, objective.x=1, finetune.epochs=3"),
    ] = None,
    features: Annotated[bool, typer.Option(help="heads see behavior features as well")] = True,
    data: Annotated[str, typer.Option(help="folder or URL of the source files")] = "",
    workers: Annotated[int, typer.Option(min=1, help="processes at a time, a core each")] = 1,
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only say what would run; builds the data")
    ] = False,
) -> None:
    """Compare pre-training methods, encoders and baselines on a data set's tasks.

    What is measured once is not measured again: stop it, run it again, add a method or a label
    share, and only what is new is run.
    """
    from orchestration.compare.settings import Asked, comparison_of

    if into and (into.is_dir() or not into.parent.is_dir()):
        raise FootpathError(f"--into {into}: give a Markdown file in a folder that is there")
    config = load_dataset(dataset)
    asked = Asked(
        methods=_words(methods),
        encoders=_words(encoders),
        tasks=_words(tasks),
        shares=tuple(share / 100 for share in _numbers("--labels", labels, float)),
        seeds=seeds,
        protocols=_words(protocols),
        settings=tuple(settings or ()),
        recipes=recipes,
        batch_sizes=_numbers("--batch-sizes", batch_sizes, int),
        features=features,
    )
    comparison = comparison_of(config, asked)
    run = Run(workers, keep_gb * 1e9, same_code, dry_run, name or _name(asked, dataset), into)
    if data:
        from contracts.config.sources import link_source

        link_source(dataset, data)
    if failed := _compare(comparison, run):
        raise FootpathError(f"{failed} jobs failed, each with the sentence above; the others count")


@dataclass(frozen=True)
class Run:
    """How a comparison is run, and where it goes."""

    workers: int
    keep_bytes: float
    same_code: bool
    dry_run: bool
    name: str
    into: Path | None


def _compare(comparison: "Comparison", run: Run) -> int:
    """Runs what is missing and shows what there is; returns how many jobs failed."""
    from features.learning.labels import default_as_of
    from orchestration.compare.inputs import build_events, check_labeled, prepare
    from orchestration.compare.jobs import plan
    from orchestration.compare.results import collect, put_into, summary, write
    from orchestration.compare.run import run_jobs
    from orchestration.definitions import open_runner

    dataset, began = comparison.dataset, time.monotonic()
    build_events(dataset, open_runner, typer.echo)
    lake = Lake.of(dataset.name)
    sources = prepare(comparison, lake, default_as_of(dataset, lake), typer.echo)
    check_labeled(comparison.tasks, sources)
    work = plan(comparison, lake, sources, run.same_code)
    cells = [cell for measured in work.measured for cell in measured.cells]
    done = sum(cell.is_done() for cell in cells)
    typer.echo(f"{len(cells)} cells, {done} of them measured; {len(work.jobs)} processes to run")
    if run.dry_run:
        for job in work.jobs:
            typer.echo(f"  {job.title}")
        return 0
    outcome = run_jobs(lake, work.jobs, run.workers, typer.echo, run.keep_bytes)
    for title, sentence in outcome.failed.items():
        typer.secho(f"failed: {title}: {sentence}", err=True, fg=typer.colors.RED)
    typer.echo("tables and pictures")
    results = collect(work, comparison)
    paths = write(results, work, comparison, lake, run.name)
    for line in summary(results):
        typer.echo(line)
    typer.echo(f"{paths['html']} ({time.monotonic() - began:.0f} s)")
    if run.into:
        put_into(run.into, run.name, paths["md"].read_text())
    return len(outcome.failed)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(option: str, text: str, kind: type) -> tuple:
    try:
        return tuple(kind(word) for word in _words(text))
    except ValueError:
        raise FootpathError(f"{option} {text}: give numbers, separated by commas") from None


def _name(asked: "Asked", dataset: str) -> str:
    return asked.recipes.stem if asked.recipes else dataset
