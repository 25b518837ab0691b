"""`footpath clean`: what is kept, what goes, and why."""

from typing import Annotated

import typer

from contracts.base.clock import now
from contracts.config.dataset import load_dataset
from contracts.lake.layout import Lake
from orchestration.cli.output import echo

DatasetOption = Annotated[str, typer.Option("--dataset", help="its name in datasets/")]


def clean(
    dataset: DatasetOption = "shop",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only say what would go, what stays, and why")
    ] = False,
    names: Annotated[bool, typer.Option("--names", help="name each thing that goes")] = False,
) -> None:
    """Remove old model versions, sequences, indexes, runs and leftovers that nothing needs.

    What is kept is `automation.keep` of the data set's YAML. Tables, figures and whatever a feature
    service, a running program or a planned comparison names are never removed.

    Example: footpath clean --dataset shop --dry-run
    """
    from orchestration.instance import open_instance
    from orchestration.retention.clean import clean as clean_all
    from orchestration.retention.report import megabytes

    config = load_dataset(dataset)
    with open_instance() as instance:
        report = clean_all(config, Lake.of(dataset), instance, now(), dry_run)
    if names:
        for each in report.of("removed"):
            echo(f"{each.kind}: {each.name} ({megabytes(each.bytes)}): {each.why}")
    for line in report.lines:
        size = megabytes(line.bytes)
        echo(f"{line.verdict:8} {line.count:>6,} {size:>12}  {line.kind}: {line.why}")
    echo(str(report))
