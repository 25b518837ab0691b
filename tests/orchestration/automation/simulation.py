"""The shop day after day, with the clock moved: files come, the sensor looks, some runs die."""

import dataclasses
import datetime as dt
import gzip
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg

from contracts.base.clock import day_window
from contracts.config.dataset import Dataset
from contracts.config.sources import link_source
from features.shop import generate_shop
from features.staleness import daily_tables
from orchestration.alerts.sensor import alerts_sensor
from orchestration.assets.behavior import behavior_assets
from orchestration.assets.evaluation import evaluation_assets
from orchestration.assets.ingestion import ingestion_assets
from orchestration.assets.learning import learning_assets
from orchestration.assets.serving import serving_assets
from orchestration.automation.sensor import automation_sensor
from orchestration.chain import Stage, StageRunner, run_stage
from orchestration.jobs import stage_jobs
from orchestration.progress import Progress
from orchestration.runs.dead_runs import end_dead_runs
from orchestration.runs.executor import in_process_executor
from orchestration.tags import FIRST_PARTITION, LAST_PARTITION, REASON, REQUESTED_AT
from orchestration.write_audit_publish import days_check
from tests import crash
from tests.builders.datasets import FEW_FEATURES, dataset_like

START = dt.date(2026, 1, 1)

# A file is complete some minutes after its hour.
WRITTEN = dt.timedelta(hours=1, minutes=5)

# Of the day, in UTC.
LAST_HOUR = 22

MORE_FEATURES = FEW_FEATURES | {
    "declared": [{"kind": "recency", "cap_days": 7}, {"kind": "trend", "short": 1, "long": 7}]
}


def shop(features: dict = FEW_FEATURES, **automation: object) -> Dataset:
    """A shop that is small enough to live through a month in minutes."""
    return dataset_like(
        "shop",
        partitions={"start": START},
        features=features,
        quality={"max_broken_share": 0.5, "min_value": 0.0},
        tasks=[{"name": "gender", "column": "gender", "metric": "auc"}],
        learning={
            "dim": 8,
            "max_length": 20,
            "epochs": 1,
            "finetuning": {"epochs": 1},
            "label_shares": [1.0],
            "recipes": ["byb_bag"],
        },
        automation={
            "complete": {"files": 24, "at": "06:00"},
            "training": {"every_days": 7, "from_days": 5},
            "embeddings": {"history_days": 2},
            # Failed runs are told by the true time, which hardly passes here.
            "alerts": {"kinds": ["day_stopped", "data_missing", "standing_still"]},
        }
        | automation,
    )


def definitions(dataset: Dataset) -> dg.Definitions:
    """The code location of the shop as it is now."""
    jobs = stage_jobs(dataset)
    return dg.Definitions(
        assets=[
            *ingestion_assets(dataset),
            *behavior_assets(dataset),
            *learning_assets(dataset),
            *evaluation_assets(dataset),
            *serving_assets(dataset),
        ],
        asset_checks=[days_check(dataset, daily_tables(dataset))],
        jobs=jobs,
        sensors=[automation_sensor(dataset, jobs), alerts_sensor(dataset)],
        resources={"pipes": dg.PipesSubprocessClient(), "progress": Progress()},
        executor=in_process_executor,
    )


@dataclasses.dataclass(order=True)
class Delivery:
    """Something that happens to the source's folder at an instant."""

    at: dt.datetime
    name: str  # of the file, below the folder
    act: Callable[[Path, Path], object] = dataclasses.field(compare=False)  # of (shop, source)
    good: bool = True  # whether the file can be used
    news: bool = True  # whether it is other than what was delivered before


def copy(name: str) -> Callable[[Path, Path], object]:
    """Delivers a file of the shop."""

    def act(shop: Path, source: Path) -> None:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(shop / name, source / name)  # with a time of its own, as a new delivery has

    return act


def spoil(name: str) -> Callable[[Path, Path], object]:
    """Delivers the first half of a file's bytes."""

    def act(shop: Path, source: Path) -> None:
        content = (shop / name).read_bytes()
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content[: len(content) // 2])

    return act


def timetable(folder: Path, changes: dict[str, list[Delivery]], hours: int) -> list[Delivery]:
    """All deliveries of a shop's folder in order: files of so many hours after them, or as changed.

    The hour that ends a day in Berlin ends such hours.
    """
    found = [
        Delivery(dt.datetime(2025, 12, 31, tzinfo=dt.UTC), name, copy(name))
        for name in ("items.csv", "users.csv")
    ]
    for path in sorted((folder / "events").glob("*/*")):
        name = str(path.relative_to(folder))
        hour = dt.datetime.fromisoformat(f"{path.parent.name}T{path.name[:2]}:00+00:00")
        last = hour + dt.timedelta(hours=(LAST_HOUR - hour.hour) % hours)
        found += changes.get(name, [Delivery(last + WRITTEN, name, copy(name))])
    return sorted(found)


def fill_hours(shop: Path, days: int) -> None:
    """Gives every hour its file: of an hour at night nobody may have done a thing."""
    first = day_window(START, "Europe/Berlin")[0]
    last = day_window(START + dt.timedelta(days=days - 1), "Europe/Berlin")[1]
    for number in range(int((last - first) / dt.timedelta(hours=1))):
        path = shop / "events" / f"{first + dt.timedelta(hours=number):%Y-%m-%d/%H}.jsonl.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(gzip.compress(b""))


class Simulation:
    """A home folder, a source that fills, and what the sensor makes of it.

    Args:
      folder: gets all of it.
      days: of the shop.
      changes: deliveries of some files in the place of the usual one, by the file's name.
      dataset_at: the YAML at an instant.
      deaths: of so many requests, chosen by chance, the process is killed.
      tick: from one look of the sensors to the next.
      seed: of that chance.
      hours: whose files come at once: each time is a run.
      risk: the chance that it is, of each request.
    """

    def __init__(
        self,
        folder: Path,
        days: int,
        changes: dict[str, list[Delivery]],
        dataset_at: Callable[[dt.datetime], Dataset],
        deaths: int = 0,
        seed: int = 0,
        tick: dt.timedelta = dt.timedelta(minutes=15),
        hours: int = 1,
        risk: float = 0.15,
    ) -> None:
        self.folder, self.days, self.dataset_at, self.tick = folder, days, dataset_at, tick
        self.shop, self.source, self.home = folder / "shop", folder / "source", folder / "home"
        generate_shop(self.shop, users=200, days=days)
        fill_hours(self.shop, days)
        self.source.mkdir()
        self.timetable = timetable(self.shop, changes, hours)
        self.chance = random.Random(seed)
        self.deaths, self.risk = deaths, risk
        self.requested: list[tuple[dt.datetime, dg.RunRequest]] = []
        self.killed = 0
        self.told = ""  # by alerts
        self.locations: dict[int, dg.Definitions] = {}  # by the YAML that they are of
        self.said = ""
        self.cursor: str | None = None  # of the sensor of alerts
        os.environ["FOOTPATH_HOME"] = str(self.home)
        link_source("shop", str(self.source))

    def events(self) -> list[Delivery]:
        """Deliveries of landing files, in order."""
        return [each for each in self.timetable if each.name.startswith("events/")]

    def live(self, until: dt.datetime) -> None:
        """Ticks from the first delivery of a day on."""
        now = day_window(START, "Europe/Berlin")[0]
        deliveries = iter(self.timetable)
        pending = next(deliveries, None)
        dagster = self.folder / "dagster"
        dagster.mkdir(exist_ok=True)
        while now < until:
            # Every day begins as after a restart: nothing is remembered in the process.
            self.locations.clear()
            with dg.DagsterInstance.from_config(str(dagster)) as instance:
                for _ in range(int(dt.timedelta(days=1) / self.tick)):
                    while pending and pending.at <= now:
                        pending.act(self.shop, self.source)
                        pending = next(deliveries, None)
                    os.environ["FOOTPATH_NOW"] = now.isoformat()
                    self._tick(instance, now)
                    now += self.tick

    def _tick(self, instance: dg.DagsterInstance, now: dt.datetime) -> None:
        end_dead_runs(instance)
        dataset = self.dataset_at(now)
        if id(dataset) not in self.locations:
            self.locations[id(dataset)] = definitions(dataset)
        defs = self.locations[id(dataset)]
        result = self._evaluate(instance, defs, "shop_automation")
        for request in result.run_requests or []:
            assert request.tags[REASON]
            self.requested.append((now, request))
            if self.deaths and self.chance.random() < self.risk:
                self.deaths -= 1
                after = self.chance.uniform(1, 8)
                self.killed += crash.dies_after(after, _run_apart, self.folder, dataset, request)
            else:
                _run(instance, defs, dataset, request)
        if result.skip_reason:
            self.said = result.skip_reason.skip_message or ""
        self.cursor = self._evaluate(instance, defs, "shop_alerts", self.cursor).cursor

    def _evaluate(
        self,
        instance: dg.DagsterInstance,
        defs: dg.Definitions,
        name: str,
        cursor: str | None = None,
    ) -> dg.SensorResult:
        context = dg.build_sensor_context(instance=instance, definitions=defs, cursor=cursor)
        result = defs.resolve_sensor_def(name)(context)
        assert isinstance(result, dg.SensorResult)
        return result


def _run_apart(folder: Path, dataset: Dataset, request: dg.RunRequest) -> None:
    """Runs a request in a process of its own."""
    os.environ["FOOTPATH_HOME"] = str(folder / "home")
    os.environ["FOOTPATH_NOW"] = request.tags[REQUESTED_AT]
    with dg.DagsterInstance.from_config(str(folder / "dagster")) as instance:
        _run(instance, definitions(dataset), dataset, request)


def _run(
    instance: dg.DagsterInstance, defs: dg.Definitions, dataset: Dataset, request: dg.RunRequest
) -> None:
    """Runs a request as Dagster's daemon would; what fails is in the instance."""
    runner = StageRunner(dataset, instance, defs.resolve_job_def)
    tags = dict(request.tags)
    first, last = tags.get(FIRST_PARTITION), tags.get(LAST_PARTITION)
    stage = str(request.job_name).removeprefix("shop_")
    try:
        run_stage(runner, Stage(stage, "", first, last, dict(request.run_config), tags))
    except Exception as error:
        print(f"{request.job_name}: {error}")


def spans(simulation: Simulation, stage: str) -> Iterator[tuple[dt.datetime, dt.date, dt.date]]:
    """When each range of a stage was requested, with its first and last day."""
    for now, request in simulation.requested:
        if request.job_name == f"shop_{stage}":
            first, last = request.tags[FIRST_PARTITION], request.tags[LAST_PARTITION]
            yield now, dt.date.fromisoformat(first[:10]), dt.date.fromisoformat(last[:10])
