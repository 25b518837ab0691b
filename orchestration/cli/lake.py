"""`footpath audit`: is the lake what its landing files make it?"""

from typing import Annotated

import typer

from contracts.base.errors import FootpathError
from contracts.config.dataset import load_dataset
from contracts.lake.layout import Lake
from orchestration.cli.output import echo

DatasetOption = Annotated[str, typer.Option("--dataset", help="its name in datasets/")]


def audit(
    dataset: DatasetOption = "shop",
    recount: Annotated[
        bool, typer.Option("--recount", help="also count the duplicates anew: reads all fragments")
    ] = False,
) -> None:
    """Account for every row of every landing file: published, in quarantine, or a duplicate."""
    from features.reconciliation import reconcile
    from orchestration.progress import counter

    with counter("days recounted") as progress:
        accounts = reconcile(load_dataset(dataset), Lake.of(dataset), recount, progress)
    for name, count in accounts.figures().items():
        echo(f"{name:>12}  {count:,}")
    if days := accounts.waiting_days:
        echo(f"not built from what has landed: {len(days):,} days, {days[0]} to {days[-1]}")
    if faults := accounts.faults:
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise FootpathError(f"rows were lost or made: {'; '.join(faults[:5])}{more}")
    echo(
        "rows + added = refused + forgotten + waiting + duplicates + quarantined + published"
        + ("; every duplicate was counted anew" if recount else "")
    )
