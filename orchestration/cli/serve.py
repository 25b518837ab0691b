"""`footpath serve` and `footpath serve-token`: the HTTP service of the feature store."""

from pathlib import Path
from typing import Annotated

import typer

from orchestration.cli.output import echo


def serve(
    dataset: Annotated[
        list[str] | None, typer.Option(help="may be given several times; by default all enabled")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8600,
    host: Annotated[str, typer.Option(help="loopback, unless there are tokens")] = "127.0.0.1",
    workers: Annotated[int, typer.Option(min=1, max=64, help="processes")] = 2,
    tokens: Annotated[Path | None, typer.Option(help="file of tokens: who may read what")] = None,
) -> None:
    """Serve features, embeddings, similar users and predictions over HTTP; read-only.

    Example: footpath serve --dataset shop --workers 2 --tokens tokens.yaml
    """
    from orchestration.http.server import serve as start
    from orchestration.http.settings import Settings

    path = str(tokens.absolute()) if tokens else ""
    settings = Settings(datasets=tuple(dataset or ()), tokens=path)
    echo(f"http://{host}:{port}/docs; Ctrl-C stops it, after the requests that were begun")
    start(settings, host, port, workers)


def serve_token(
    name: Annotated[str, typer.Argument(help="whose it is, such as ranking")],
    service: Annotated[
        list[str] | None,
        typer.Option(help="glob over DATASET/SERVICE that it may read; several times"),
    ] = None,
) -> None:
    """Print a new token, which is shown once, and its entry for the file of tokens.

    Example: footpath serve-token ranking --service "shop/user_representation__v*"
    """
    import json

    from orchestration.http.tokens import TokenEntry, new_token

    token, digest = new_token()
    entry = TokenEntry(name=name, sha256=digest, services=service or ["*/*"])
    echo(f"token: {token}", err=True)
    echo(f"  - {json.dumps(entry.model_dump())}")
