"""Late files in Dagster itself: what the sensors ask for, and what comes out of running it."""

import datetime as dt
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from orchestration.assets.behavior import behavior_assets
from orchestration.assets.ingestion import ingestion_assets
from orchestration.jobs import stage_jobs
from orchestration.progress import Progress
from orchestration.rebuild import new_files_sensor, rebuild_sensor
from tests.builders.daily import TABLES, values
from tests.builders.datasets import DAYS, FIRST, LAST, tiny
from tests.builders.landing import Deliveries, at

# A row of the third day that comes with a file of the last.
LATE = DAYS[2]
LATE_ROW = ("late-1", "u1", at(LATE, 23.9))

START, END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


class Shop:
    """The tiny source with its code location and an instance."""

    def __init__(self, instance: dg.DagsterInstance, dataset: Dataset) -> None:
        assets = [*ingestion_assets(dataset), *behavior_assets(dataset)]
        jobs = {
            job.name: job
            for job in stage_jobs(dataset, assets)
            if job.name in ("tiny_landing", "tiny_daily")
        }
        self.instance = instance
        self.sensors = {
            "new": new_files_sensor(dataset, jobs["tiny_landing"]),
            "late": rebuild_sensor(dataset, "tiny_landing", jobs["tiny_daily"]),
        }
        self.defs = dg.Definitions(
            assets=assets,
            jobs=list(jobs.values()),
            sensors=list(self.sensors.values()),
            resources={"progress": Progress()},
        )
        self.cursors: dict[str, str | None] = {}

    def run(self, job: str, tags: dict[str, str]) -> dg.ExecuteInProcessResult:
        """Runs a job as a request for it would."""
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance, tags=tags, raise_on_error=False
        )

    def build(self, first: dt.date = FIRST, last: dt.date = LAST) -> None:
        """Lands and builds days as the schedules do."""
        for job in ("tiny_landing", "tiny_daily"):
            assert self.run(job, {START: str(first), END: str(last)}).success

    def tick(self, sensor: str) -> dg.SensorResult:
        """Evaluates a sensor as the daemon does, with the cursor that it left."""
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursors.get(sensor), definitions=self.defs
        )
        result = self.sensors[sensor](context)
        assert isinstance(result, dg.SensorResult)
        self.cursors[sensor] = result.cursor or self.cursors.get(sensor)
        return result

    def follow(self, sensor: str, job: str) -> dict[str, str]:
        """Runs what a sensor asks for; returns the tags."""
        (request,) = self.tick(sensor).run_requests or []
        assert self.run(job, dict(request.tags)).success
        return dict(request.tags)


def said(result: dg.SensorResult) -> str:
    assert not result.run_requests
    assert isinstance(result.skip_reason, dg.SkipReason)
    return result.skip_reason.skip_message or ""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source, and the home folder after all its days were built."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv("FOOTPATH_HOME", str(folder / "home"))
        Deliveries(folder / "source").write_every_day()
        Shop(instance, tiny()).build()
    return folder


@pytest.fixture
def source(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deliveries:
    """A copy of it of the test's own."""
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("FOOTPATH_HOME", str(tmp_path / "home"))
    return Deliveries(tmp_path / "source")


@pytest.fixture
def shop(source: Deliveries) -> Iterator[Shop]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Shop(instance, tiny())


@pytest.fixture(scope="module")
def in_time(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    """All tables as the files give them that there are once the late row has come."""
    folder = tmp_path_factory.mktemp("in_time")
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv("FOOTPATH_HOME", str(folder / "home"))
        deliveries = Deliveries(folder / "source")
        deliveries.write_every_day()
        deliveries.write(DAYS[9], "late", [LATE_ROW])
        Shop(instance, tiny()).build()
        return values(Lake.of("tiny"))


def test_a_late_row_is_landed_and_rebuilt_and_all_tables_are_as_if_it_had_come_in_time(
    shop, source, in_time
):
    lake = Lake.of("tiny")
    assert "has landed" in said(shop.tick("new"))
    assert "every published day is built from the data" in said(shop.tick("late"))
    before = {path: path.stat().st_mtime_ns for path in lake.root.glob("*/2026-*.parquet")}
    features = lake.day("user_behavior_features", LATE)
    known = pq.read_table(features).to_pylist()
    began = dt.datetime.now(dt.UTC)

    source.write(DAYS[9], "late", [LATE_ROW])
    landed = shop.follow("new", "tiny_landing")
    assert (landed[START], landed[END]) == (str(DAYS[9]), str(DAYS[9]))
    built = shop.follow("late", "tiny_daily")
    assert (built[START], built[END]) == (str(LATE), str(DAYS[7]))
    assert "has landed" in said(shop.tick("new"))
    assert "every published day is built from the data" in said(shop.tick("late"))

    # Sessions look back two days, features over three days one day more; nothing else is touched.
    touched = {
        f"{path.parent.name} {path.stem}"
        for path, stamp in before.items()
        if path.parent.name in TABLES and path.stat().st_mtime_ns != stamp
    }
    assert touched == (
        {f"events {LATE}"}
        | {f"sessions {day}" for day in DAYS[2:5]}
        | {f"user_behavior_features {day}" for day in DAYS[2:8]}
    )
    # What was known stays, and what is known now has its true time.
    rows = pq.read_table(features).to_pylist()
    (added,) = [row for row in rows if row not in known]
    assert len(rows) == len(known) + 1
    assert added["user_id"] == "u1"
    assert began <= added["created"] <= dt.datetime.now(dt.UTC)
    assert values(lake) == in_time


def test_nothing_is_asked_for_twice_on_the_same_data(shop, source):
    spoilt = ",".join(["late-1", "", at(LATE, 12)])
    path = source.write(DAYS[9], "late", [])
    path.write_text("id,who,ts\n" + "\n".join([spoilt] * 9) + "\n")
    shop.follow("new", "tiny_landing")
    (request,) = shop.tick("late").run_requests or []
    assert not shop.run("tiny_daily", dict(request.tags)).success  # nobody is in most rows
    for _ in range(2):
        reason = said(shop.tick("late"))
        assert "did not rebuild 2026-03-03 to 2026-03-08" in reason
        assert "footpath rebuild --dataset tiny" in reason
    # The mended file is other data.
    source.write(DAYS[9], "late", [("late-1", "u1", at(LATE, 12))])
    shop.follow("new", "tiny_landing")
    shop.follow("late", "tiny_daily")
    assert "every published day" in said(shop.tick("late"))


def test_a_run_that_died_between_events_and_sessions_leaves_the_rest_due(shop, source, in_time):
    source.write(DAYS[9], "late", [LATE_ROW])
    shop.follow("new", "tiny_landing")
    only = dg.AssetSelection.assets(["tiny", "events"])
    job = dg.define_asset_job("only_events", selection=only)
    some = dg.Definitions(
        assets=shop.defs.assets, jobs=[job], resources={"progress": Progress()}
    ).resolve_job_def("only_events")
    tags = {START: str(LATE), END: str(LATE)}
    assert some.execute_in_process(instance=shop.instance, tags=tags).success
    built = shop.follow("late", "tiny_daily")
    assert (built[START], built[END]) == (str(LATE), str(DAYS[7]))
    assert values(Lake.of("tiny")) == in_time


def test_a_file_that_comes_again_as_it_was_makes_nothing_due(shop, source):
    path = source.folder / str(LATE) / "on-time.csv"
    text = path.read_text()
    path.unlink()
    path.write_text(text)
    shop.follow("new", "tiny_landing")
    assert "every published day is built from the data" in said(shop.tick("late"))


def test_a_file_that_cannot_be_used_is_asked_for_once_and_named(shop, source):
    path = source.write(DAYS[9], "late", [])
    path.write_text("id,who\n" + "1,2\n" * 30)
    (request,) = shop.tick("new").run_requests or []
    assert not shop.run("tiny_landing", dict(request.tags)).success
    assert f"did not land {DAYS[9]}/late.csv" in said(shop.tick("new"))


def test_the_sensors_wait_for_a_run_that_is_at_work(shop, source):
    source.write(DAYS[9], "late", [("late-1", "u1", at(LATE, 12))])
    job = shop.defs.resolve_job_def("tiny_landing")
    run = shop.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert run.run_id in said(shop.tick("new"))
    assert run.run_id in said(shop.tick("late"))


def test_days_that_nobody_has_built_are_not_built(shop, source):
    lake = Lake.of("tiny")
    for table in TABLES:
        for day in DAYS[5:]:
            lake.day(table, day).unlink()
    source.write(DAYS[9], "late", [("late-1", "u1", at(LATE, 12))])
    shop.follow("new", "tiny_landing")
    built = shop.follow("late", "tiny_daily")
    assert (built[START], built[END]) == (str(LATE), str(DAYS[4]))
    assert lake.days("events") == DAYS[:5]


def test_a_tick_without_news_reads_no_manifest_and_no_table(shop, source, monkeypatch):
    shop.tick("late")
    shop.tick("new")

    def never(*_: object) -> None:
        raise AssertionError("was read")

    monkeypatch.setattr("features.staleness.find_stale", never)
    monkeypatch.setattr("features.ingestion.landing.new_arrivals", never)
    assert "every published day" in said(shop.tick("late"))
    assert "has landed" in said(shop.tick("new"))
    assert json.loads(shop.cursors["late"] or "{}")["state"]


def test_a_run_that_was_killed_is_requested_again_but_not_for_ever(shop, source):
    source.write(DAYS[9], "late", [LATE_ROW])
    keys = []
    for _ in range(3):
        (request,) = shop.tick("new").run_requests or []
        keys.append(request.run_key)
        killed = shop.instance.create_run_for_job(
            shop.defs.resolve_job_def("tiny_landing"), tags=dict(request.tags)
        )
        shop.instance.report_run_failed(killed, "killed")
    assert len(set(keys)) == 3
    assert "killed, 3 times in a row" in said(shop.tick("new"))
