"""`footpath online`: what the online store holds."""

from typing import Annotated

import typer

from contracts.config.dataset import load_dataset
from contracts.lake.layout import Lake
from orchestration.cli.output import echo

app = typer.Typer(no_args_is_help=True, help="Look at the online store.")


@app.callback()
def _commands() -> None:
    """Holds the name of the command: Typer would take the only one for the whole."""


@app.command()
def verify(
    dataset: Annotated[str, typer.Option("--dataset", help="its name in datasets/")] = "shop",
) -> None:
    """Read every row back, and write those again that are not as they were written.

    Each run of `online_features` looks at a part, so that 24 runs see every row.

    Example: footpath online verify --dataset shop
    """
    from features.store import materialize
    from orchestration.progress import counter

    with counter("online rows") as report:
        found = materialize(load_dataset(dataset), Lake.of(dataset), report, verify_all=True)
    echo(str(found))
