"""What a command prints: lines with values of the data in them, none of which moves the cursor."""

import typer

from contracts.base.text import shown


def echo(text: str, err: bool = False) -> None:
    """Prints a line, control characters escaped."""
    typer.echo(shown(text), err=err)
