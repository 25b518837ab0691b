"""Landing and daily tables kept up to date: what the sensor asks for, and what comes of it."""

import datetime as dt
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest
from dagster._core.storage.partition_status_cache import AssetPartitionStatus

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from features.staleness import daily_tables
from orchestration.assets.behavior import behavior_assets
from orchestration.assets.ingestion import ingestion_assets
from orchestration.automation.sensor import SETTLED, automation_sensor
from orchestration.jobs import stage_jobs
from orchestration.progress import Progress
from orchestration.tags import REASON
from orchestration.write_audit_publish import days_check
from tests.builders.daily import TABLES, values
from tests.builders.datasets import DAYS, FIRST, LAST, tiny
from tests.builders.landing import Deliveries, at

# A row of the third day that comes with a file of the last.
LATE = DAYS[2]
LATE_ROW = ("late-1", "u1", at(LATE, 23.9))

START, END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"

# The night after the last day, once it counts as complete.
NIGHT = "2026-03-11T01:00"


class Shop:
    """The tiny source with its code location and an instance."""

    def __init__(self, instance: dg.DagsterInstance, dataset: Dataset) -> None:
        self.instance = instance
        self.dataset = dataset
        assets = [*ingestion_assets(dataset), *behavior_assets(dataset)]
        wanted = ("tiny_tables", "tiny_landing", "tiny_daily")
        jobs = [job for job in stage_jobs(dataset) if job.name in wanted]
        self.sensor = automation_sensor(dataset, jobs)
        self.defs = dg.Definitions(
            assets=assets,
            asset_checks=[days_check(dataset, daily_tables(dataset))],
            jobs=jobs,
            sensors=[self.sensor],
            resources={"progress": Progress()},
        )

    def run(self, job: str, tags: dict[str, str]) -> dg.ExecuteInProcessResult:
        """Runs a job as a request for it would."""
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance, tags=tags, raise_on_error=False
        )

    def build(self, first: dt.date = FIRST, last: dt.date = LAST) -> None:
        """Lands and builds days as somebody does by hand."""
        for job in ("tiny_landing", "tiny_daily"):
            assert self.run(job, {START: str(first), END: str(last)}).success

    def tick(self) -> dg.SensorResult:
        """Evaluates the sensor as the daemon does."""
        context = dg.build_sensor_context(instance=self.instance, definitions=self.defs)
        result = self.sensor(context)
        assert isinstance(result, dg.SensorResult)
        return result

    def asked(self, stage: str) -> dg.RunRequest:
        """The one thing that is asked for, of a stage."""
        (request,) = self.tick().run_requests or []
        assert request.job_name == f"tiny_{stage}"
        return request

    def follow(self, stage: str) -> dict[str, str]:
        """Runs what is asked for; returns the tags."""
        request = self.asked(stage)
        assert self.run(f"tiny_{stage}", dict(request.tags)).success
        return dict(request.tags)

    def said(self) -> str:
        """What a tick tells that asks for nothing."""
        result = self.tick()
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
    assert shop.said() == SETTLED
    before = {path: path.stat().st_mtime_ns for path in lake.root.glob("*/2026-*.parquet")}
    features = lake.day("user_behavior_features", LATE)
    known = pq.read_table(features).to_pylist()
    began = dt.datetime.now(dt.UTC)

    source.write(DAYS[9], "late", [LATE_ROW])
    landed = shop.follow("landing")
    assert (landed[START], landed[END]) == (str(DAYS[9]), str(DAYS[9]))
    assert landed[REASON] == f"{DAYS[9]}/late.csv is new"
    built = shop.follow("daily")
    assert (built[START], built[END]) == (str(LATE), str(DAYS[7]))
    assert f"such as {LATE}: fragments new: {DAYS[9]}/late.csv" in built[REASON]
    assert shop.said() == SETTLED

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


def test_a_stopped_day_stands_still_until_its_file_is_mended(shop, source, in_time):
    spoilt = ",".join(["late-1", "", at(LATE, 12)])
    path = source.write(DAYS[9], "late", [])
    path.write_text("id,who,ts\n" + "\n".join([spoilt] * 9) + "\n")
    shop.follow("landing")
    assert not shop.run("tiny_daily", dict(shop.asked("daily").tags)).success  # nobody in most rows
    for _ in range(2):
        assert f"events {LATE}: 1 of 7 rows are broken (14.3%, and 5.0% may be)" in shop.said()
    # What is after it goes on.
    source.write(DAYS[8], "more", [("more", "u1", at(DAYS[8], 12))])
    shop.follow("landing")
    assert shop.follow("daily")[START] == str(DAYS[8])
    # The mended file is other data.
    source.write(DAYS[9], "late", [LATE_ROW])
    (source.folder / str(DAYS[8]) / "more.csv").write_text("id,who,ts\n")
    shop.follow("landing")
    shop.follow("daily")
    assert shop.said() == SETTLED
    assert values(Lake.of("tiny")) == in_time


def test_days_beside_a_stopped_one_do_not_count_as_failed_nor_a_day_that_is_again_as_it_was(
    shop, source
):
    def failed(table: str) -> list[str]:
        key = dg.AssetKey(["tiny", table])
        definition = shop.defs.resolve_assets_def(key).partitions_def
        known = shop.instance.get_status_by_partition(key, list(map(str, DAYS)), definition) or {}
        return [d for d, status in known.items() if status == AssetPartitionStatus.FAILED]

    path = source.write(DAYS[9], "late", [])
    path.write_text("id,who,ts\n" + f"late-1,,{at(LATE, 12)}\n" * 9)
    shop.follow("landing")
    request = shop.asked("daily")
    assert request.tags[END] > str(LATE)
    assert not shop.run("tiny_daily", dict(request.tags)).success
    assert failed("events") == [str(LATE)]
    path.write_text("id,who,ts\n")
    shop.follow("landing")
    request = shop.asked("daily")
    assert "was stopped, and is as it was published again" in request.tags[REASON]
    assert shop.run("tiny_daily", dict(request.tags)).success
    assert shop.said() == SETTLED
    assert [failed(table) for table in TABLES] == [[], [], []]


def test_a_stopped_day_is_built_once_its_threshold_has_changed(shop, source):
    spoilt = ",".join(["late-1", "", at(LATE, 12)])
    path = source.write(DAYS[9], "late", [])
    path.write_text("id,who,ts\n" + "\n".join([spoilt] * 9) + "\n")
    shop.follow("landing")
    assert not shop.run("tiny_daily", dict(shop.asked("daily").tags)).success
    assert "1 of 7 rows are broken" in shop.said()
    laxer = Shop(shop.instance, tiny(quality={"max_broken_share": 0.9}))
    laxer.follow("daily")
    assert laxer.said() == SETTLED


@pytest.mark.long
def test_a_run_that_died_between_events_and_sessions_leaves_the_rest_due(shop, source, in_time):
    source.write(DAYS[9], "late", [LATE_ROW])
    shop.follow("landing")
    only = dg.AssetSelection.assets(["tiny", "events"])
    job = dg.define_asset_job("only_events", selection=only)
    some = dg.Definitions(
        assets=shop.defs.assets, jobs=[job], resources={"progress": Progress()}
    ).resolve_job_def("only_events")
    tags = {START: str(LATE), END: str(LATE)}
    assert some.execute_in_process(instance=shop.instance, tags=tags).success
    built = shop.follow("daily")
    assert (built[START], built[END]) == (str(LATE), str(DAYS[7]))
    assert values(Lake.of("tiny")) == in_time


@pytest.mark.long
def test_a_file_that_comes_again_as_it_was_makes_nothing_due(shop, source):
    path = source.folder / str(LATE) / "on-time.csv"
    text = path.read_text()
    path.unlink()
    path.write_text(text)
    shop.follow("landing")
    assert shop.said() == SETTLED


def test_a_file_that_cannot_be_used_is_asked_for_once_and_named(shop, source):
    path = source.write(DAYS[9], "late", [])
    path.write_text("id,who\n" + "1,2\n" * 30)
    assert not shop.run("tiny_landing", dict(shop.asked("landing").tags)).success
    assert f"landing {DAYS[9]}: {DAYS[9]}/late.csv" in shop.said()
    # Another file of that day lands without a word of the one that is refused.
    source.write(DAYS[9], "more", [("more", "u1", at(DAYS[9], 12))])
    shop.follow("landing")
    shop.follow("daily")
    # And the mended one is another file.
    source.write(DAYS[9], "late", [("late-1", "u1", at(DAYS[9], 13))])
    shop.follow("landing")
    shop.follow("daily")
    assert shop.said() == SETTLED


def test_the_sensor_waits_for_a_run_that_is_at_work(shop, source):
    source.write(DAYS[9], "late", [("late-1", "u1", at(LATE, 12))])
    job = shop.defs.resolve_job_def("tiny_landing")
    run = shop.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert run.run_id in shop.said()


@pytest.mark.long
def test_days_that_nobody_has_built_are_built(shop, source, in_time):
    lake = Lake.of("tiny")
    for table in TABLES:
        for day in DAYS[5:]:
            lake.day(table, day).unlink()
    source.write(DAYS[9], "late", [LATE_ROW])
    shop.follow("landing")
    built = shop.follow("daily")
    assert (built[START], built[END]) == (str(LATE), str(LAST))
    assert shop.said() == SETTLED
    assert values(lake) == in_time


@pytest.mark.long
def test_only_what_was_built_counts_as_materialized(shop, source):
    source.write(DAYS[9], "late", [LATE_ROW])
    shop.follow("landing")
    shop.follow("daily")
    (run, *_) = shop.instance.get_runs(dg.RunsFilter(job_name="tiny_daily"))
    made = {table: set() for table in TABLES}
    for entry in shop.instance.all_logs(
        run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
    ):
        event = entry.dagster_event
        made[event.asset_key.path[-1]].add(event.partition)
    assert made["events"] == {str(LATE)}
    assert made["sessions"] == {str(day) for day in DAYS[2:5]}
    assert made["user_behavior_features"] == {str(day) for day in DAYS[2:8]}


@pytest.mark.long
def test_a_range_is_cut_at_the_most_days_of_a_run(source):
    with dg.DagsterInstance.ephemeral() as instance:
        shop = Shop(instance, tiny(automation={"max_days": 4}))
        shutil.rmtree(Lake.of("tiny").root)
        landed = shop.follow("landing")
        assert (landed[START], landed[END]) == (str(FIRST), str(LAST))
        spans = [shop.follow("daily") for _ in range(3)]
        assert [(span[START], span[END]) for span in spans] == [
            (str(DAYS[0]), str(DAYS[3])),
            (str(DAYS[4]), str(DAYS[7])),
            (str(DAYS[8]), str(DAYS[9])),
        ]
        assert shop.said() == SETTLED


def test_a_request_that_failed_is_made_again_after_ever_longer_waits(shop, source, monkeypatch):
    source.write(DAYS[9], "late", [LATE_ROW])
    asked, now = [], dt.datetime(2026, 4, 1, tzinfo=dt.UTC)
    for minute in (0, 4, 5, 24, 25, 104, 105, 424, 425, 600, 1439):
        monkeypatch.setenv("FOOTPATH_NOW", (now + dt.timedelta(minutes=minute)).isoformat())
        for request in shop.tick().run_requests or []:
            asked.append((minute, request.run_key))
            killed = shop.instance.create_run_for_job(
                shop.defs.resolve_job_def("tiny_landing"), tags=dict(request.tags)
            )
            shop.instance.report_run_failed(killed, "killed")
    assert [minute for minute, _ in asked] == [0, 5, 25, 105, 425]
    assert len({key for _, key in asked}) == len(asked)
    assert "failed (5 times): it is tried again at 2026-04-02 04:25 UTC" in shop.said()


@pytest.mark.parametrize(
    ("files", "now", "days"),
    [
        (None, "2026-03-03T00:59", DAYS[:1]),  # the second day waits for its hour
        (None, "2026-03-03T01:00", DAYS[:2]),
        (1, "2026-03-03T00:01", DAYS[:2]),  # it has ended, and has all its files
        (2, "2026-03-03T00:59", DAYS[:1]),
        (2, "2026-03-03T01:00", DAYS[:2]),
    ],
)
def test_a_day_is_built_once_it_is_complete(source, monkeypatch, files, now, days):
    shutil.rmtree(Lake.of("tiny").root)
    monkeypatch.setenv("FOOTPATH_NOW", now)
    with dg.DagsterInstance.ephemeral() as instance:
        shop = Shop(instance, tiny(automation={"complete": {"files": files}}))
        landed = shop.follow("landing")
        assert (landed[START], landed[END]) == (str(DAYS[0]), str(DAYS[1]))
        built = shop.follow("daily")
        assert (built[START], built[END]) == (str(days[0]), str(days[-1]))
        said = shop.said()
        if len(days) == 1:
            assert f"{DAYS[1]}: 1 {'of 2 ' if files else ''}files are there; it is built at" in said
            assert "at 2026-03-03 01:00 at the latest" in said
        elif files == 2:
            assert f"{DAYS[1]}: 1 of its 2 files are there" in said
        else:
            assert said == SETTLED


def test_a_day_without_a_file_is_missing_and_holds_up_nothing(source, monkeypatch):
    shutil.rmtree(Lake.of("tiny").root)
    late = source.folder / str(DAYS[3])
    late.rename(source.folder.parent / "later")
    monkeypatch.setenv("FOOTPATH_NOW", NIGHT)
    with dg.DagsterInstance.ephemeral() as instance:
        shop = Shop(instance, tiny())
        shop.follow("landing")
        shop.follow("daily")
        assert Lake.of("tiny").days("events") == [*DAYS[:3], *DAYS[4:]]
        assert shop.said() == f"{DAYS[3]}: no file of it has arrived"
        (source.folder.parent / "later").rename(late)
        shop.follow("landing")
        assert shop.follow("daily")[START] == str(DAYS[3])
        assert shop.said() == SETTLED
        assert Lake.of("tiny").days("events") == DAYS


@pytest.mark.long
def test_trailing_days_are_built_again_once_a_night(source, monkeypatch):
    monkeypatch.setenv("FOOTPATH_NOW", NIGHT)
    with dg.DagsterInstance.ephemeral() as instance:
        shop = Shop(instance, tiny(automation={"trailing_days": 2}))
        lake = Lake.of("tiny")
        before = {day: lake.day("events", day).stat().st_mtime_ns for day in DAYS}
        built = shop.follow("daily")
        assert (built[START], built[END]) == (str(DAYS[8]), str(DAYS[9]))
        assert built[REASON] == "the last 2 days are built again each night"
        after = {day: lake.day("events", day).stat().st_mtime_ns for day in DAYS}
        assert [day for day in DAYS if before[day] != after[day]] == DAYS[8:]
        assert shop.said() == SETTLED
