"""`footpath production` and `footpath health`: the stack of one machine, and whether it is well."""

from typing import Annotated

import typer


def production(
    port: Annotated[int, typer.Option(min=1, max=65535, help="of the UI")] = 3000,
    host: Annotated[
        str, typer.Option(help="of the UI; loopback unless a proxy asks")
    ] = "127.0.0.1",
    serve_port: Annotated[int, typer.Option(help="of features over HTTP")] = 8600,
    code_port: Annotated[int, typer.Option(envvar="FOOTPATH_CODE_PORT", help="of the code")] = 4266,
    postgres_port: Annotated[int, typer.Option(help="of a PostgreSQL that is started")] = 5433,
    redis_port: Annotated[int, typer.Option(help="of a Redis that is started")] = 6380,
    s3_port: Annotated[int, typer.Option(help="of an S3 server that is started")] = 9000,
) -> None:
    """Run webserver, daemon, code and feature server, and what they need, under supervisord.

    Each is started again when it dies. Example: footpath production --port 8080
    """
    from orchestration.production.servers import Ports
    from orchestration.production.stack import start_stack

    ports = Ports(port, code_port, serve_port, postgres_port, redis_port, s3_port)
    start_stack(ports, host, typer.echo)


def health() -> None:
    """Ask all processes of the stack whether they are well; exit code 1 if one is not.

    Example: footpath health
    """
    from orchestration.production.health import check_health

    found = list(check_health())
    for each in found:
        mark, color = ("ok  ", "green") if each.is_well else ("down", "red")
        typer.echo(f"{typer.style(mark, fg=color)}  {each.name}: {each.said}")
    if not all(each.is_well for each in found):
        raise typer.Exit(1)
