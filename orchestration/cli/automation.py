"""`footpath automation`: what is due of a data set, who does it, and who is told."""

import subprocess
import sys
from typing import Annotated

import typer

from contracts.base.clock import now, parse_instant
from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset, load_dataset
from contracts.config.sources import enable
from contracts.lake.layout import Lake
from orchestration.cli.output import echo

app = typer.Typer(no_args_is_help=True, help="Keep a data set up to date by itself.")

DatasetOption = Annotated[str, typer.Option("--dataset", help="its name in datasets/")]


@app.command()
def plan(
    dataset: DatasetOption = "shop",
    at: Annotated[
        str, typer.Option(help="an instant such as 2026-02-01T03:00, local; by default now")
    ] = "",
) -> None:
    """Say what would be requested, and why; and what waits or stands still.

    Example: footpath automation plan --dataset shop --at 2026-02-01T03:00
    """
    from orchestration.automation.history import RunHistory
    from orchestration.automation.plan import make_plan
    from orchestration.automation.sensor import SETTLED
    from orchestration.instance import open_instance

    config = load_dataset(dataset)
    instant = parse_instant(at, "--at", config.timezone) if at else now()
    with open_instance() as instance:
        found = make_plan(config, Lake.of(dataset), instant, RunHistory(instance, config))
    for request in found.requests:
        echo(f"due      {request}")
    for note in found.notes:
        echo(f"{note.kind:<8} {note}")
    if not found.requests and not found.notes:
        echo(SETTLED)


@app.command()
def run(dataset: DatasetOption = "shop") -> None:
    """Do now all that is due, in this process: land, build, train, embed, serve.

    Example: footpath automation run --dataset shop
    """
    from orchestration.automation.catch_up import catch_up
    from orchestration.automation.sensor import SETTLED
    from orchestration.definitions import open_runner

    with open_runner(load_dataset(dataset)) as runner:
        left = catch_up(runner, echo)
    for note in left.notes:
        echo(f"{note.kind:<8} {note}")
    if not left.notes:
        echo(SETTLED)


@app.command()
def on(dataset: DatasetOption = "shop") -> None:
    """Switch automation on: Dagster's daemon then requests what is due, a look a minute.

    Example: footpath automation on --dataset shop
    """
    config = load_dataset(dataset)
    enable(dataset)  # else Dagster does not know its sensor
    _switch(config, "start")


@app.command()
def off(dataset: DatasetOption = "shop") -> None:
    """Switch automation off; runs that are under way go on.

    Example: footpath automation off --dataset shop
    """
    _switch(load_dataset(dataset), "stop")


@app.command("test-alert")
def send_test_alert(dataset: DatasetOption = "shop") -> None:
    """Send a test message to whoever is told of a data set, and show what was answered.

    Example: footpath automation test-alert --dataset shop
    """
    from orchestration.alerts.messages import Line, Message
    from orchestration.alerts.receivers import UnsentError, receivers_of, ui_url
    from orchestration.alerts.sensor import NOBODY

    config = load_dataset(dataset)
    receivers = receivers_of(config)
    if not receivers:
        raise FootpathError(f"{NOBODY}: see Alerts in docs/operating.md")
    line = Line("Nothing is wrong", f"alerts of data set '{dataset}' arrive here", ui_url())
    message = Message(f"{config.title}: a test", (line,))
    failed = []
    for receiver in receivers:
        try:
            echo(f"{receiver.title}: {receiver.send(message)}")
        except UnsentError as error:
            echo(f"{receiver.title}: {error}")
            failed.append(receiver.name)
    if failed:
        raise FootpathError(
            f"the test did not arrive by {' and '.join(failed)}: check the address and the secrets"
        )


def _switch(dataset: Dataset, verb: str) -> None:
    """Starts or stops the sensor by Dagster's own command: its instance keeps the switch.

    Raises:
      FootpathError: Dagster has refused.
    """
    from orchestration.automation.sensor import sensor_name
    from orchestration.instance import REPOSITORY, prepare_instance

    prepare_instance()
    name = sensor_name(dataset)
    command = [sys.executable, "-m", "dagster", "sensor", verb, name, "-w", "workspace.yaml"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise FootpathError(f"dagster sensor {verb} {name} failed: {' '.join(last)}")
    echo(f"automation of {dataset.name} is {'on' if verb == 'start' else 'off'}")
