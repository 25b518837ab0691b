"""What every stage costs in processor time, memory and bytes, and what a larger company would need.

    python -m benchmarks.scale --users 6000 30000
    python -m benchmarks.scale --from measured.json     # the tables again, without measuring

Writes the synthetic shop of 31 days for each number of users, and builds it stage by stage: 30 days
as a backfill, the last one as a night. Every stage runs in a process of its own, which counts its
processor time (user and system, its children's too) once everything is loaded, its peak memory
and the bytes that it has published. Two sizes give a straight line: what a stage costs for being
started, and what it costs a million of the rows that it grows with.

Torch gets one thread: two that wait for each other burn processor time on a busy machine. `cores`
is how many a stage can keep busy: its processor time over that of its busiest thread, which other
work on the machine does not change.

The second table is computed, not measured: the lines of the first one, continued. `Company` has its
assumptions.
"""

import argparse
import contextlib
import datetime as dt
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.base.clock import as_of_instant, days_between
from contracts.config.dataset import Dataset, load_dataset
from contracts.config.sources import link_source
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json
from contracts.lake.versions import allocate, trial_folder

DAYS = 31
RECIPES = ("ptum_bert4rec", "coles_bag")  # a Transformer, and mean pooling
EMBEDDED_BY = RECIPES[0]
DAILY = ("events", "sessions", "user_behavior_features")


@dataclass(frozen=True)
class Cost:
    """A stage: what its cost grows with, and the folders below the lake that hold what it makes."""

    title: str
    unit: str
    folders: tuple[str, ...]


EVENTS, HISTORY, USERS = "landed events", "events of the history", "users"
STAGES = {
    "landing": Cost("landing: gzip JSON lines to fragments", EVENTS, ("landing",)),
    "events": Cost("events, with the gate", EVENTS, ("events",)),
    "sessions": Cost("sessions, with the gate", EVENTS, ("sessions",)),
    "features": Cost("features, 30 days in one run, with the gate", "feature rows",
                     ("user_behavior_features", "user_daily_activity")),
    "night": Cost("features, the last day alone, with the gate", "feature rows",
                  ("user_behavior_features", "user_daily_activity")),
    "sequences": Cost("training sequences", HISTORY, ("sequences",)),
    "train-ptum_bert4rec": Cost("pre-training, ptum_bert4rec, an epoch", USERS, ("trials",)),
    "train-coles_bag": Cost("pre-training, coles_bag, an epoch", USERS, ("trials",)),
    "encoding": Cost("embedding: sequences of the day", HISTORY, ("sequences",)),
    "embedding": Cost("embedding: vectors, ptum_bert4rec", USERS, ("user_embeddings",)),
    "online": Cost("online rows, SQLite", "online rows", ("feature_store",)),
}  # fmt: skip


def shop() -> tuple[Dataset, Lake, list[dt.date]]:
    """The data set, its lake, and its days."""
    dataset = load_dataset("shop")
    first = dataset.partitions.start
    return dataset, Lake.of("shop"), days_between(first, first + dt.timedelta(days=DAYS - 1))


def landing() -> dict[str, int]:
    """Lands every file."""
    from features.ingestion.landing import land

    dataset, lake, _ = shop()
    return {EVENTS: land(dataset, lake, None).rows}


def built(table: str, days: Callable[[list[dt.date]], list[dt.date]]) -> dict[str, int]:
    """Builds days of a daily table."""
    # The gate loads it when it is first used: seconds of a process, not of its rows.
    import great_expectations  # noqa: F401

    from features.behavior.build import stage_features
    from features.ingestion.dedup import stage_events
    from features.sessionization.sessions import stage_sessions
    from validation.gate import audit_events, audit_table, publish

    stage = dict(zip(DAILY, (stage_events, stage_sessions, stage_features), strict=True))[table]
    dataset, lake, all_days = shop()
    begin()
    with lake.staging() as folder:
        staged: Any = stage(dataset, lake, days(all_days), folder)
        if table == "events":
            verdicts = audit_events(dataset, lake, staged, folder)
        else:
            verdicts = audit_table(dataset, lake, table, staged, folder)
        for verdict in verdicts.values():
            if not verdict.passed:
                raise SystemExit(f"{table}: {verdict.failures}")
        publish(lake, table, verdicts, folder)
    return {"feature rows": sum(v.rows_published for v in verdicts.values())}


def sequences() -> dict[str, int]:
    """Packs every event, with a vocabulary of its own."""
    from features.learning.sequences import build_sequences

    dataset, lake, days = shop()
    begin()
    return {HISTORY: build_sequences(dataset, lake, days[-1]).events}


def trained(name: str) -> dict[str, int]:
    """Trains a recipe of the shop for an epoch."""
    from contracts.recipes.jobs import Runtime, TrainIO, TrainJob
    from models.runtime.report import Reporter
    from models.train import train

    dataset, lake, days = shop()
    recipe = dataset.recipes[name].model_copy(update={"epochs": 1})
    out = trial_folder(lake, name)
    begin()
    io = TrainIO(sequences=lake.root / "sequences" / f"{days[-1]}.json", out=out)
    return {
        USERS: train(TrainJob(recipe=recipe, io=io, runtime=Runtime(threads=1)), Reporter())[
            "users"
        ]
    }


def encoding() -> dict[str, int]:
    """Packs every event again, with the vocabulary of a model."""
    from features.learning.sequences import build_sequences

    dataset, lake, days = shop()
    vocabulary = trial_folder(lake, EMBEDDED_BY) / "vocabulary.json"
    begin()
    report = build_sequences(dataset, lake, days[-1], vocabulary)
    publish_json(lake, {"pointer": str(report.pointer)}, lake.root / "encoded.json")
    return {HISTORY: report.events}


def embedding() -> dict[str, int]:
    """Makes and publishes a vector of each user."""
    from contracts.recipes.jobs import EmbedDay, EmbedJob, EmbedModel, Runtime
    from features.store import publish_embeddings
    from models.embed import embed
    from models.runtime.report import Reporter

    dataset, lake, days = shop()
    version = allocate(lake, EMBEDDED_BY, EMBEDDED_BY, str(days[-1])).version
    instant = as_of_instant(days[-1], dataset.timezone).isoformat()
    pointer = Path(json.loads((lake.root / "encoded.json").read_text())["pointer"])
    begin()
    with lake.staging() as folder:
        staged = folder / f"{days[-1]}.parquet"
        day = EmbedDay(event_timestamp=instant, created=instant, sequences=pointer, out=staged)
        checkpoint = trial_folder(lake, EMBEDDED_BY)
        model = EmbedModel(model_version=version, checkpoint=checkpoint, days=[day])
        rows = embed(EmbedJob(models=[model], runtime=Runtime(threads=1)), Reporter())["rows"]
        publish_embeddings(lake, version, days[-1], staged)
    return {USERS: rows}


def online() -> dict[str, int]:
    """Fills an empty online store with the newest features and vectors."""
    from features.store import apply_registry, materialize

    dataset, lake, _ = shop()
    apply_registry(dataset, lake)
    begin()
    return {"online rows": materialize(dataset, lake).rows}


WORK: dict[str, Callable[[], dict[str, int]]] = {
    "landing": landing,
    "events": lambda: built("events", lambda days: days),
    "sessions": lambda: built("sessions", lambda days: days),
    "features": lambda: built("user_behavior_features", lambda days: days[:-1]),
    "night": lambda: built("user_behavior_features", lambda days: days[-1:]),
    "sequences": sequences,
    "train-ptum_bert4rec": lambda: trained("ptum_bert4rec"),
    "train-coles_bag": lambda: trained("coles_bag"),
    "encoding": encoding,
    "embedding": embedding,
    "online": online,
}

_begun = 0.0


def begin() -> None:
    """Starts the clocks: what was loaded before is not counted."""
    global _begun
    _begun = _processor()


def _processor() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def measured(stage: str) -> dict[str, Any]:
    """Runs a stage in this process."""
    _, lake, _ = shop()
    before = _bytes(lake, stage)
    begin()
    with Threads() as threads:
        rows = WORK[stage]()
    cpu = _processor() - _begun
    peaks = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    peak = max(each.ru_maxrss for each in peaks) / 1024
    found = {"cpu": cpu, "peak_mb": peak, "bytes": _bytes(lake, stage) - before}
    return found | {"cores": threads.cores(), "rows": rows}


class Threads:
    """Looks at the processor time of each thread of this process, as long as it lives."""

    def __enter__(self) -> "Threads":
        self._ended, self._ticks = threading.Event(), {}
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def cores(self) -> float:
        """Processor time of all threads over that of the busiest."""
        return sum(self._ticks.values()) / max([1, *self._ticks.values()])

    def _look(self) -> None:
        first: dict[str, float] = {}
        while not self._ended.wait(0.2):
            for task in Path("/proc/self/task").iterdir():
                with contextlib.suppress(OSError):  # it has just ended
                    fields = (task / "stat").read_text().rpartition(")")[2].split()
                    ticks = int(fields[11]) + int(fields[12])
                    if _begun != first.get("begun"):
                        first = {"begun": _begun}
                        self._ticks = {}
                    self._ticks[task.name] = ticks - first.setdefault(task.name, ticks)


def _bytes(lake: Lake, stage: str) -> int:
    folders = [lake.root / folder for folder in STAGES[stage].folders]
    return sum(p.stat().st_size for f in folders for p in f.rglob("*") if p.is_file())


def measure(users: int) -> dict[str, Any]:
    """Builds a shop, each stage in a process of its own."""
    from features.shop import generate_shop

    with tempfile.TemporaryDirectory() as folder:
        home = {"FOOTPATH_HOME": f"{folder}/home"}
        os.environ |= home
        truth = generate_shop(Path(folder) / "shop", users, DAYS, 0, shop()[0].partitions.start)
        link_source("shop", f"{folder}/shop")
        _write_tables()
        found: dict[str, Any] = {"users": users, "rows": truth.lines, "stages": {}}
        units: dict[str, int] = {}
        for stage in STAGES:
            command = [sys.executable, "-m", "benchmarks.scale", "--stage", stage]
            run = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            result = json.loads(run.stdout.splitlines()[-1])
            units |= result.pop("rows")
            found["stages"][stage] = result | {"units": units[STAGES[stage].unit]}
            sys.stderr.write(f"{users:,} users, {stage}: {result['cpu']:.1f} CPU s\n")
        return found


def _write_tables() -> None:
    """Publishes catalog and users, which cost nothing beside events."""
    from features.ingestion.lookup_tables import build_items, build_users

    dataset, lake, _ = shop()
    build_items(dataset, lake)
    build_users(dataset, lake)


@dataclass(frozen=True)
class Line:
    """A stage's cost: a start, and so much a million of its unit."""

    start: float  # CPU seconds
    cpu: float
    bytes: float
    peaks: tuple[float, float]  # MB at both sizes
    memory: float  # MB more a million
    cores: float


def lines(small: dict[str, Any], large: dict[str, Any]) -> dict[str, Line]:
    """The straight lines through two sizes."""
    found = {}
    for stage in STAGES:
        a, b = small["stages"][stage], large["stages"][stage]

        def slope(what: str, a: dict = a, b: dict = b) -> float:
            return max((b[what] - a[what]) / (b["units"] - a["units"]) * 1e6, 0.0)

        found[stage] = Line(
            start=max(a["cpu"] - slope("cpu") * a["units"] / 1e6, 0.0),
            cpu=slope("cpu"),
            # The day's sequences were there already here, being the ones that were trained on.
            bytes=found["sequences"].bytes if stage == "encoding" else slope("bytes"),
            peaks=(a["peak_mb"], b["peak_mb"]),
            memory=slope("peak_mb"),
            cores=a["cores"],
        )
    return found


def tell_measured(small: dict[str, Any], large: dict[str, Any]) -> Iterator[str]:
    """The first table."""
    told = (f"{each['users']:,} users with {each['rows']:,} rows" for each in (small, large))
    yield f"Measured with {' and '.join(told)}, {DAYS} days.\n"
    yield (
        "| stage | a million of | CPU s | MB written | start, CPU s | peak MB at both sizes "
        "| cores |"
    )
    yield "|---|---|---|---|---|---|---|"
    for stage, line in lines(small, large).items():
        cells = [STAGES[stage].title, STAGES[stage].unit, f"{line.cpu:,.1f}"]
        written = "" if stage.startswith("train") else f"{line.bytes / 1e6:,.0f}"
        cells += [written, f"{line.start:.1f}", f"{line.peaks[0]:,.0f}, {line.peaks[1]:,.0f}"]
        yield f"| {' | '.join([*cells, f'{line.cores:.1f}'])} |"


@dataclass(frozen=True)
class Company:
    """A size to compute for; every assumption is here."""

    events: float  # a day
    monthly_users: float  # have an event within 30 days: each has a feature row a day
    daily_users: float  # have a row that changes online, and a vector
    history_days: int = 90  # of events in the lake
    epochs: int = 6  # of a training, once a week


COMPANIES = {
    "10 M events a day": Company(10e6, 2e6, 0.5e6),
    "1 B events a day": Company(1e9, 100e6, 30e6),
    "100 B events a day": Company(100e9, 2e9, 1e9),
}
NIGHT_HOURS = 4.0  # in which a day must be built


def units_of(company: Company) -> dict[str, float]:
    """How often a day of a company has each unit, in millions."""
    history = company.events * company.history_days
    online = company.monthly_users + company.daily_users
    units = {EVENTS: company.events, HISTORY: history, "feature rows": company.monthly_users}
    units |= {USERS: company.monthly_users, "online rows": online}
    return {unit: count / 1e6 for unit, count in units.items()}


def tell_computed(small: dict[str, Any], large: dict[str, Any]) -> Iterator[str]:
    """The second table: CPU hours and gigabytes written a day, by stage and company."""
    nights = dict.fromkeys(COMPANIES, 0.0)
    yield f"| stage | {' | '.join(COMPANIES)} |"
    yield f"|---|{'---|' * len(COMPANIES)}"
    for stage, line in lines(small, large).items():
        if stage == "features":
            continue  # a backfill, not a night
        trains = stage.startswith("train")
        is_weekly = trains or stage == "sequences"
        cells = []
        for name, company in COMPANIES.items():
            millions = units_of(company)[STAGES[stage].unit]
            times = company.epochs if trains else 1
            hours, gigabytes = line.cpu * millions * times / 3600, line.bytes * millions / 1e9
            nights[name] += 0 if is_weekly else hours
            shown = f"{hours:,.0f}" if hours > 10 else f"{hours:.2g}"
            cells.append(f"{shown} h" + ("" if trains else f", {gigabytes:,.1f} GB"))
        title = STAGES[stage].title.replace("an epoch", f"{Company.epochs} epochs")
        yield f"| {title}{', once a week' if is_weekly else ''} | {' | '.join(cells)} |"
    told = [f"{max(hours / NIGHT_HOURS, 1):,.0f}" for hours in nights.values()]
    yield f"| **cores that end a night in {NIGHT_HOURS:.0f} h** | {' | '.join(told)} |"


def main() -> None:
    """Measures two sizes and prints both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--users", type=int, nargs=2, default=[6000, 30000])
    parser.add_argument("--out", type=Path, help="keep what was measured here, as JSON")
    parser.add_argument("--from", dest="kept", type=Path, help="what was measured before")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        print(json.dumps(measured(given.stage)))
        return
    if given.kept:
        small, large = json.loads(given.kept.read_text())
    else:
        small, large = (measure(users) for users in sorted(given.users))
    if given.out:
        given.out.write_text(json.dumps([small, large]))
    print("\n".join([*tell_measured(small, large), "", *tell_computed(small, large)]))


if __name__ == "__main__":
    main()
