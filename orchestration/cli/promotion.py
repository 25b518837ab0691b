"""`footpath promote`, `rollback`, `pin` and `retire`: which model versions are served."""

from typing import Annotated

import typer

from contracts.base.clock import now
from contracts.base.errors import FootpathError
from contracts.config.dataset import load_dataset
from contracts.lake.layout import Lake
from orchestration.cli.output import echo

DatasetOption = Annotated[str, typer.Option("--dataset", help="its name in datasets/")]
AliasOption = Annotated[
    str, typer.Option("--alias", help="user_representation, or a task with models of its own")
]
USER_REPRESENTATION = "user_representation"


def promote(
    version: Annotated[str, typer.Argument(help="model version; without it, what is decided")] = "",
    dataset: DatasetOption = "shop",
    despite: Annotated[str, typer.Option(help="why it is promoted whatever the checks find")] = "",
) -> None:
    """Give new work another model version, by the same checks as a run; or show what is decided.

    Example: footpath promote coles_bag_v2 --dataset shop
    """
    from orchestration.promotion.decision import aliases, decide
    from orchestration.promotion.report import candidate_lines
    from orchestration.promotion.steps import promote_by_hand

    config, lake = load_dataset(dataset), Lake.of(dataset)
    if version:
        service, verdict = promote_by_hand(config, lake, version, "footpath promote", despite)
        echo(f"{version} is served as {service}. {verdict.reason}".rstrip())
        return
    for alias in aliases(config):
        decision = decide(config, lake, alias)
        verb = "is to be promoted: it" if decision.version else ""
        who = decision.version or decision.incumbent or "nothing"
        echo(f"{alias}: {who} {verb} {decision.reason}".replace("  ", " "))
        for line in candidate_lines(decision):
            echo(f"  {line}")


def rollback(dataset: DatasetOption = "shop", alias: AliasOption = USER_REPRESENTATION) -> None:
    """Go back to the model version before; no run promotes the left one again by itself.

    Example: footpath rollback --dataset shop
    """
    from orchestration.promotion.steps import roll_back

    echo(f"{alias} leads to {roll_back(load_dataset(dataset), Lake.of(dataset), alias)} again")


def pin(
    version: Annotated[str, typer.Argument(help="model version")] = "",
    dataset: DatasetOption = "shop",
    off: Annotated[bool, typer.Option("--off", help="take the pin off")] = False,
    alias: AliasOption = USER_REPRESENTATION,
) -> None:
    """Keep a model version served, whatever is trained; --off ends it.

    Example: footpath pin coles_bag_v1 --dataset shop
    """
    from orchestration.promotion import steps

    if bool(version) == off:
        raise FootpathError("give the model version to pin, or --off")
    config, lake = load_dataset(dataset), Lake.of(dataset)
    if off:
        pinned = steps.unpin(lake, alias)
        echo(f"{pinned} is not pinned any more" if pinned else f"{alias} has no pin")
    else:
        echo(f"{version} is served as {steps.pin(config, lake, version)}, and stays")


def retire(
    service: Annotated[str, typer.Argument(help="such as user_representation__v1")],
    last_day: Annotated[str, typer.Option(help="the last day of it, such as 2027-01-31")],
    dataset: DatasetOption = "shop",
    although_read: Annotated[
        bool, typer.Option("--although-read", help="even if somebody has read it of late")
    ] = False,
) -> None:
    """Say when a service goes that nobody should read any more; it is served up to that day.

    Example: footpath retire user_representation__v1 --last-day 2027-01-31
    """
    import datetime as dt

    from features.store import apply_registry
    from features.store.promotions import retire as mark
    from features.store.repository import locked

    try:
        day = dt.date.fromisoformat(last_day)
    except ValueError:
        raise FootpathError(f"--last-day {last_day}: give a day such as 2027-01-31") from None
    if day < now().date():
        raise FootpathError(f"--last-day {last_day} is over: those who read it must have time")
    config, lake = load_dataset(dataset), Lake.of(dataset)
    with locked(lake):
        mark(lake, service, day, although_read)
    apply_registry(config, lake)
    echo(f"{service} is served until {day}; its tag last_day says so to whoever reads it")
