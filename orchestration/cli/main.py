"""The `footpath` command: run the chain, open the UI, look at data sets and users.

Every fault that a user can mend ends in one sentence on stderr and exit code 1.
"""

import contextlib
import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from contracts.base.disks import disk_sentence
from contracts.base.errors import FootpathError
from contracts.base.text import shown
from contracts.config.dataset import dataset_file, load_dataset
from contracts.config.sources import enable, link_source, source_folder
from contracts.lake.layout import Lake, home, lakes
from contracts.lake.remote import sentence
from orchestration.cli import (
    automation,
    clean,
    compare,
    datasets,
    doctor,
    lake,
    online,
    production,
    promotion,
    quarantine,
    serve,
    users,
)
from orchestration.cli.output import echo
from orchestration.production.addresses import WEBSERVER_MODULE, use_addresses

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__
)
app.add_typer(datasets.app, name="datasets")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(automation.app, name="automation")
app.add_typer(online.app, name="online")
app.command()(lake.audit)
app.command()(clean.clean)
app.command()(compare.compare)
app.command()(doctor.doctor)
app.command()(promotion.promote)
app.command()(promotion.rollback)
app.command()(promotion.pin)
app.command()(promotion.retire)
app.command()(serve.serve)
app.command()(serve.serve_token)
app.command()(production.production)
app.command()(production.health)
app.add_typer(users.app, name="users")
shop = typer.Typer(no_args_is_help=True, help="The synthetic shop.")
app.add_typer(shop, name="shop")

# The smallest shop of which each split has users of every class: fewer do up to the daily tables.
ENOUGH_USERS = "; evaluation needs some 200, --until daily does with fewer"
ENOUGH_DAYS = "; evaluation needs some 21"

DatasetOption = Annotated[str, typer.Option("--dataset", help="its name in datasets/")]


def _show_version(is_asked: bool) -> None:
    if is_asked:
        echo(f"footpath {doctor.version()}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    _: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Holds the options of the command itself."""
    if context.invoked_subcommand != "production":  # which gives them itself
        use_addresses()


@app.command()
def run(
    dataset: DatasetOption = "shop",
    data: Annotated[str, typer.Option(help="folder or URL of the source files")] = "",
    users: Annotated[int, typer.Option(help=f"users of the shop{ENOUGH_USERS}", min=50)] = 2000,
    days: Annotated[int, typer.Option(help=f"days of the shop{ENOUGH_DAYS}", min=14)] = 60,
    seed: Annotated[int, typer.Option(help="of the shop and of the training")] = 0,
    first_day: Annotated[str, typer.Option(help="such as 2026-01-01; by default the first")] = "",
    last_day: Annotated[str, typer.Option(help="by default the last that has landed")] = "",
    until: Annotated[str, typer.Option(help="the last stage, such as daily: all if empty")] = "",
) -> None:
    """Run the whole chain of a data set, from landing files to the feature store."""
    from orchestration.cli.terminal import Terminal

    config = datasets.load_checked(dataset_file(dataset))
    terminal = Terminal(config)
    if dataset == "shop" and not data:
        terminal.generate_shop(users, days, seed)
    elif data:
        _require_folder(dataset, data)
        link_source(dataset, data)
    source_folder(dataset)
    enable(dataset)
    terminal.run_chain(seed, first_day, last_day, until)
    terminal.show_results()


@app.command()
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535)] = 3000,
    host: Annotated[str, typer.Option(help="loopback unless you know what you do")] = "127.0.0.1",
) -> None:
    """Open the Dagster UI on the instance that `footpath run` uses."""
    from orchestration.dagster_private import develop
    from orchestration.instance import REPOSITORY, prepare_instance

    prepare_instance()
    os.chdir(REPOSITORY)
    develop(["-w", "workspace.yaml", "--host", host, "--port", str(port)], WEBSERVER_MODULE)


@app.command()
def leaderboard(dataset: DatasetOption = "shop") -> None:
    """Show the leaderboard that was last built."""
    load_dataset(dataset)
    path = Lake.of(dataset).root / "leaderboard" / "leaderboard.md"
    if not path.exists():
        raise FootpathError(f"{path} is not there: run `footpath run --dataset {dataset}` first")
    echo(path.read_text())


@shop.command("generate")
def shop_generate(
    folder: Annotated[Path, typer.Argument(help="where the landing files go")],
    users: Annotated[int, typer.Option(min=1)] = 2000,
    days: Annotated[int, typer.Option(min=1)] = 60,
    seed: int = 0,
) -> None:
    """Write the landing files of a synthetic shop of any size."""
    from features.shop import generate_shop
    from orchestration.progress import counter

    with counter("days of the shop") as report:
        truth = generate_shop(folder, users, days, seed, progress=report)
    echo(f"{truth.lines:,} rows in {folder}; what is in them: {folder / 'truth.json'}")


def _require_folder(dataset: str, data: str) -> None:
    if "://" not in data and not Path(data).is_dir():
        raise FootpathError(
            f"{data} is not a folder: --data takes the folder of the files of '{dataset}'"
        )


def main() -> None:
    """Runs the command line; a FootpathError becomes its sentence and exit code 1."""
    # Beta and preview notices of the libraries below are ours to read, not the user's.
    # Feast puts filters of its own before any of ours, so nothing is filtered but all unshown.
    warnings.showwarning = lambda *_, **__: None
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    stops = _note_stops()
    code = _exit_code(stops)
    # DuckDB's binding reports its own leaks at interpreter exit, page after page: leave without.
    # Programs that train end with this process (models/runtime/report.py).
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or never open
            stream.flush()
    os._exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Stops the command; Ctrl-C does not, where the shell that started it has it ignored.

    Dagster puts the handler of SIGINT in the place of that of SIGTERM whenever a run ends.
    """
    logging.lastResort = logging.NullHandler()  # libraries tell of connections that they leave
    sys.unraisablehook = lambda *_: None  # Python tells of what it drops, as below
    handler = signal.getsignal(signal.SIGINT)
    if handler is not _interrupt and callable(handler):  # Dagster's, while it runs
        handler(number, frame)
    elif number != signal.SIGINT or not _ignores_ctrl_c:
        signal.setitimer(signal.ITIMER_REAL, INSIST)
        raise KeyboardInterrupt


def _insist(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    """Stops a command that is still at work a while after it was stopped.

    Python drops what is raised in a callback of a weak reference, wherever a signal finds one. A
    command that is on its way out is left alone.
    """
    error = sys.exception()
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    if error is None:
        _interrupt(signal.SIGTERM, frame)
    signal.setitimer(signal.ITIMER_REAL, INSIST)


_ignores_ctrl_c = False  # as a command in the background of a script does
INSIST = 2.0  # seconds
STOPS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def _note_stops() -> int:
    """Makes SIGTERM, SIGHUP and Ctrl-C stop a command alike.

    Returns:
      A pipe of the numbers of all signals that come: Dagster has handlers of its own while it runs,
      and what it raises does not tell which signal it was.
    """
    numbers, written = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(written, warn_on_full_buffer=False)
    global _ignores_ctrl_c
    _ignores_ctrl_c = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    for stop in STOPS:
        if stop == signal.SIGINT or signal.getsignal(stop) is not signal.SIG_IGN:  # as of nohup
            signal.signal(stop, _interrupt)
    signal.signal(signal.SIGALRM, _insist)
    return numbers


def _exit_code(stops: int) -> int:
    """Runs the command; one that was stopped has said so, whatever became of it on its way out."""
    code, told = 130, ""
    try:
        code = _run_app()
    except FootpathError as error:
        code, told = 1, str(error)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        code = 1  # whoever read the output has enough
    except Exception as error:
        code, told = 1, _meaning(error) or ""
        if not told and not _first_stop(stops):
            raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if (stop := _first_stop(stops)) or code == 130:
        code, told = 128 + (stop or signal.SIGINT), "stopped; run the same command to go on"
    if told:
        with contextlib.suppress(OSError):  # the terminal may be what has gone
            typer.secho(f"footpath: {shown(told)}", err=True, fg=typer.colors.RED)
    return code


def _run_app() -> int:
    try:
        app(standalone_mode=True)
    except SystemExit as done:
        return int(done.code or 0)
    return 0


def _first_stop(stops: int) -> int:
    """The signal that the process was stopped by; 0 if it was not."""
    with contextlib.suppress(BlockingIOError):
        _came.extend(os.read(stops, 1024))
    heeded = STOPS[:-1] if _ignores_ctrl_c else STOPS
    return next((number for number in _came if number in heeded), 0)


_came: list[int] = []


def _meaning(error: Exception) -> str | None:
    """A sentence for an error of a store, which may go at any moment, or of a file."""
    if told := sentence(type(error), str(error), str(lakes())):
        return told
    if isinstance(error, OSError) and error.filename:
        return (
            f"{error.filename} cannot be used: {error.strerror}: check that it is what it should "
            f"be, its rights and the room on its disk (FOOTPATH_HOME is {home()})"
        )
    return disk_sentence(str(error), home())


if __name__ == "__main__":
    main()
