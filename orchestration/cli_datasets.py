"""`footpath datasets`: list, link to their files, and check before anything runs."""

from pathlib import Path
from typing import Annotated

import typer

from contracts.dataset import dataset_names, load_dataset, load_dataset_file
from contracts.errors import FootpathError
from contracts.links import link_source, source_folder

app = typer.Typer(no_args_is_help=True, help="Look at data sets before they are run.")


@app.command("list")
def list_datasets() -> None:
    """List the configured data sets and where their files lie."""
    for name in dataset_names():
        try:
            where = source_folder(name)
        except FootpathError:
            where = "not linked"
        typer.echo(f"{name:20} {load_dataset(name).title:30} {where}")


@app.command("link")
def link(name: str, folder: str) -> None:
    """Remember where the source files of a data set lie."""
    load_dataset(name)
    if "://" not in folder and not Path(folder).is_dir():
        raise FootpathError(f"{folder} is not a folder: link takes the folder of the source files")
    link_source(name, folder)
    typer.echo(f"{name}: files are read from {source_folder(name)}")


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="a data set's YAML")],
    data: Annotated[str, typer.Option(help="its source folder, if it was not linked")] = "",
    rows: Annotated[int, typer.Option(min=1, help="how many events to show")] = 10,
) -> None:
    """Validate a data set's YAML and show what a sample of its rows would become."""
    from features.preview import preview
    from orchestration.terminal import show_preview

    dataset = load_dataset_file(file)
    show_preview(dataset, preview(dataset, data or source_folder(dataset.name), rows))
