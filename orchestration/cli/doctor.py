"""`footpath doctor`: what is installed, reachable and running, what stands still, and what to do.

    footpath doctor

In:  the environment, the home folder, the Dagster instance and the lakes; nothing is built.
Out: a line a check. Credentials are never shown, only whether they are there.
"""

import contextlib
import importlib.metadata
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil
import typer

from contracts.base.clock import now
from contracts.base.errors import FootpathError
from contracts.base.text import shown
from contracts.config.dataset import Dataset, dataset_names, load_dataset
from contracts.config.sources import source_folder
from contracts.lake.layout import Lake, home, lakes
from contracts.lake.paths import is_remote
from orchestration.cli.output import echo
from orchestration.production.addresses import CODE_HOST
from orchestration.production.addresses import folder as folder_of_stack
from orchestration.production.health import check_health

if TYPE_CHECKING:
    import dagster as dg

SECONDS = 5  # to wait for a service
MIN_DISK, MIN_MEMORY = 5e9, 2e9
QUEUED_TOO_LONG, SILENT = 600.0, 120.0  # seconds of a queued run, and of the daemon
GB = 1e9


@dataclass(frozen=True)
class Finding:
    """What one check has found."""

    what: str
    said: str
    todo: str = ""  # what its reader should do; nothing where all is well


def doctor() -> None:
    """Check the installation, the services, Dagster and every linked data set; say what to do.

    Ends with exit code 1 if something is to be done. Example: footpath doctor
    """
    todo = 0
    for area, check in AREAS.items():
        typer.secho(area, bold=True)
        for finding in _findings(check):
            mark, color = ("todo", "red") if finding.todo else ("ok", "green")
            line = f"{finding.what}: {finding.said}"
            typer.echo(f"  {typer.style(f'{mark:4}', fg=color)}  {shown(line)}")
            if finding.todo:
                todo += 1
                echo(f"        -> {finding.todo}")
    typer.echo(f"{todo} things to do" if todo else "nothing to do")
    if todo:
        raise typer.Exit(1)


def version() -> str:
    """Version of the installed package."""
    return importlib.metadata.version("footpath")


def _findings(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Findings of one area; a fault in it is one too, and the other areas go on."""
    try:
        yield from check()
    except FootpathError as error:
        yield Finding("error", str(error), "do what the sentence says")


def _installation() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    from orchestration.instance import REPOSITORY

    yield Finding("footpath", f"{version()} on Python {platform.python_version()}")
    wrong = []
    names = ("requirements.in", "requirements-torch.txt")
    lines = [line for name in names for line in (REPOSITORY / name).read_text().splitlines()]
    for line in lines:
        if not (text := line.split("#")[0].strip()) or text.startswith("-"):
            continue
        needed = Requirement(text)
        try:
            found = importlib.metadata.version(needed.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{needed.name} is missing")
            continue
        if not needed.specifier.contains(found, prereleases=True):
            wrong.append(f"{needed.name} is {found}, expected {needed.specifier}")
    install = "run `make setup`" if wrong else ""
    yield Finding("packages", ", ".join(wrong) or "as requirements.in asks for", install)


def _machine() -> Iterator[Finding]:
    folder = next(path for path in [home(), *home().parents] if path.exists())
    free = shutil.disk_usage(folder).free
    more = f"free some of the disk of {folder}, or set FOOTPATH_HOME" if free < MIN_DISK else ""
    yield Finding("disk", f"{free / GB:.1f} GB free in {folder}", more)
    memory = psutil.virtual_memory()
    said = f"{memory.available / GB:.1f} of {memory.total / GB:.1f} GB available"
    more = "end other programs, or lower FOOTPATH_MEMORY" if memory.available < MIN_MEMORY else ""
    yield Finding("memory", said, more)
    gpus = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    torch = importlib.metadata.version("torch")
    more = "install torch with CUDA: see requirements-torch.txt" if gpus and "+cpu" in torch else ""
    yield Finding("GPU", f"{gpus}, torch {torch}" if gpus else "none: training takes the CPU", more)


def _services() -> Iterator[Finding]:
    yield from _stores()
    yield from _alerts()


def _stores() -> Iterator[Finding]:
    for variable in ("DAGSTER_POSTGRES_URL", "FOOTPATH_REGISTRY"):
        if url := os.environ.get(variable):
            yield _reached(variable, url, "PGPASSWORD", _ask_postgres)
    online = os.environ.get("FOOTPATH_ONLINE_STORE", "")
    if urlsplit(online).scheme in ("redis", "rediss"):
        yield _reached("FOOTPATH_ONLINE_STORE", online, "FOOTPATH_REDIS_PASSWORD", _ask_redis)
    elif online:
        there = Path(online).exists()
        more = "" if there else "write the file, or correct the variable"
        yield Finding("FOOTPATH_ONLINE_STORE", "Feast's own settings" if there else "no file", more)
    if is_remote(lakes()):  # its bucket is asked for
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        absent = [key for key in keys if not os.environ.get(key)]
        said = f"answers; {' and '.join(absent)} not set" if absent else "answers; keys are set"
        yield Finding("FOOTPATH_LAKE", said)
    else:
        yield Finding("lake", str(lakes()))


def _reached(variable: str, url: str, secret: str, ask: Callable[[str], None]) -> Finding:
    """Asks a service whether it is there; shows its address without user and password."""
    parts = urlsplit(url)
    given = "with" if parts.password or os.environ.get(secret) else "without"
    where = f"{parts.hostname}:{parts.port or 'default port'}, {given} a password"
    try:
        ask(url)
    except Exception as error:
        # A client's message may quote the address with its password.
        why = type(error).__name__
        todo = f"start it, or correct {variable} and its credentials"
        return Finding(variable, f"{where}: does not answer ({why})", todo)
    return Finding(variable, f"{where}: answers")


def _alerts() -> Iterator[Finding]:
    from orchestration.alerts.setup import setup

    yield from (Finding("alerts", said, todo) for said, todo in setup(_loadable(), os.environ))


def _loadable() -> list[Dataset]:
    """Data sets whose YAML is right; the others are named elsewhere."""
    found = []
    for name in dataset_names():
        with contextlib.suppress(FootpathError):
            found.append(load_dataset(name))
    return found


def _ask_postgres(url: str) -> None:
    import psycopg2

    address = "postgresql://" + url.partition("://")[2]
    psycopg2.connect(address, connect_timeout=SECONDS).close()


def _ask_redis(url: str) -> None:
    import redis

    password = os.environ.get("FOOTPATH_REDIS_PASSWORD")
    settings = {"password": password} if password else {}
    with redis.Redis.from_url(url, socket_connect_timeout=SECONDS, **settings) as client:
        client.ping()


def _dagster() -> Iterator[Finding]:
    import dagster as dg

    from orchestration.instance import prepare_instance
    from orchestration.runs.dead_runs import end_dead_runs

    folder = prepare_instance()
    try:
        opened = dg.DagsterInstance.get()
    except Exception as error:
        said = f"{folder} cannot be opened ({type(error).__name__})"
        yield Finding("instance", said, "make what is named under Services answer, or correct it")
        return
    yield Finding("instance", str(folder))
    with opened as instance:
        ended = end_dead_runs(instance)
        todo = "run the same again; look at the memory and the log of the host" if ended else ""
        yield Finding("dead runs", " ".join(ended) or "none", todo)
        yield from _queue(instance)
        yield from _untold(instance)
    if os.environ.get(CODE_HOST):  # of a production stack
        for found in check_health():
            todo = f"look at {found.name}.log in {folder_of_stack() / 'log'}, or start the stack"
            yield Finding(found.name, found.said, "" if found.is_well else todo)


def _untold(instance: "dg.DagsterInstance") -> Iterator[Finding]:
    """Receivers of alerts that did not take the last message."""
    from orchestration.alerts.setup import untold

    for dataset in _loadable():
        for said, todo in untold(instance, dataset):
            yield Finding(f"alerts of {dataset.name}", said, todo)


def _queue(instance: "dg.DagsterInstance") -> Iterator[Finding]:
    """Runs that wait, and whether somebody is there to start them."""
    import dagster as dg

    filters = {
        status: dg.RunsFilter(statuses=[status])
        for status in (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.QUEUED)
    }
    started, queued = (instance.get_run_records(each) for each in filters.values())
    since = min((r.create_timestamp.timestamp() for r in queued), default=time.time())
    waited = time.time() - since
    todo = ""
    if waited > QUEUED_TOO_LONG:
        todo = "end a run under Runs in the UI, raise max_concurrent_runs, or start the daemon"
    said = f"{len(started)} runs started, {len(queued)} queued"
    yield Finding("queue", f"{said}, the first for {waited / 60:.0f} min" if queued else said, todo)
    beats = [beat.timestamp for beat in instance.get_daemon_heartbeats().values()]
    age = time.time() - max(beats) if beats else None
    alive = age is not None and age < SILENT
    states = instance.all_instigator_state()
    switched_on = [state.name for state in states if state.status.value == "RUNNING"]
    said = f"heartbeat {age / 60:.0f} min ago" if age is not None else "has never run"
    waiting = [*switched_on, *(["the queue"] if queued else [])]
    todo = f"`footpath ui` or your services: {', '.join(waiting[:5])} wait for it"
    yield Finding("daemon", said, todo if waiting and not alive else "")


def _datasets() -> Iterator[Finding]:
    unlinked = []
    for name in dataset_names():
        try:
            source_folder(name)
        except FootpathError:
            unlinked.append(name)
            continue
        try:
            yield from _dataset(load_dataset(name))
        except FootpathError as error:
            yield Finding(name, str(error), f"then `footpath datasets check {name}`")
    if unlinked:
        yield Finding("not linked", ", ".join(unlinked))


def _dataset(dataset: Dataset) -> Iterator[Finding]:
    """Files and published days of a data set, what is due, and what stands still."""
    from features.ingestion.listing import find_arrivals
    from features.staleness import daily_tables
    from orchestration.automation.plan import make_plan
    from orchestration.automation.request import NoHistory

    name, lake = dataset.name, Lake.of(dataset.name)
    arrivals = find_arrivals(dataset, None)
    last = max((arrival.day for arrival in arrivals if arrival.day), default=None)
    yield Finding(name, f"{len(arrivals):,} files{f', the last of {last}' if last else ''}")
    published = {t: lake.days(t) for t in daily_tables(dataset)}
    counts = [
        f"{table} {len(built):,} days to {built[-1]}" if built else f"{table} none"
        for table, built in published.items()
    ]
    yield Finding(f"{name}, published", ", ".join(counts))
    plan = make_plan(dataset, lake, now(), NoHistory())
    for request in plan.requests:
        todo = f"`footpath automation on --dataset {name}`, or `run` in the place of `on`"
        yield Finding(f"{name}, due", str(request), todo)
    for note in plan.notes:
        yield Finding(f"{name}, {note.kind}", str(note), ADVICE.get(note.kind, ""))


# What to do about a note of a plan; nothing where it is no fault.
ADVICE = {
    "stopped": "mend the source or the thresholds of the YAML: it is then built again",
    "refused": "mend the file or the YAML: it is then landed again",
    "missing": "ask who delivers it; it is built once it is there",
    "partial": "ask who delivers it; the day is built again once all is there",
    "failed": "mend what it says",
}

AREAS: dict[str, Callable[[], Iterator[Finding]]] = {
    "Installation": _installation,
    "Machine": _machine,
    "Services": _services,
    "Dagster": _dagster,
    "Data sets": _datasets,
}
