"""A range of days in one run: good days are published and recorded, bad ones neither."""

import datetime as dt
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from features.staleness import daily_tables
from orchestration.assets.behavior import behavior_assets
from orchestration.assets.ingestion import ingestion_assets
from orchestration.assets.learning import learning_assets
from orchestration.chain import DaysStoppedError, StageRunner, WholeChain, run_chain
from orchestration.jobs import chain_job, stage_jobs
from orchestration.progress import Progress
from orchestration.tags import CHAIN, WHAT, range_tags
from orchestration.write_audit_publish import days_check
from tests.builders.datasets import tiny
from tests.builders.landing import linked

DAYS = ["2026-03-01", "2026-03-02", "2026-03-03"]


def dataset() -> Dataset:
    return tiny(
        partitions={"start": DAYS[0], "end": DAYS[-1]},
        landing={
            "url": "{year}-{month}-{day}.csv",
            "format": "csv",
            "columns": {"who": "VARCHAR", "ts": "VARCHAR", "what": "VARCHAR"},
        },
        events={
            "user_id": "who",
            "timestamp": "TRY_CAST(ts AS TIMESTAMPTZ)",
            "action": "what",
        },
    )


def write(folder: Path, day: str, action: str, users: int = 3) -> None:
    rows = [f"u{n},{day}T10:00:00Z,{action}" for n in range(users)]
    (folder / f"{day}.csv").write_text("\n".join(["who,ts,what", *rows]) + "\n")


@pytest.fixture
def source(tmp_path: Path, lake_home: Path) -> Path:
    return linked(tmp_path / "source", "tiny")


def materialize(instance: dg.DagsterInstance, first: str, last: str) -> dg.ExecuteInProcessResult:
    # Sessions and features come along, so that what is downstream of a bad day is seen too.
    assets = [*ingestion_assets(dataset()), *behavior_assets(dataset())]
    return dg.materialize(
        [*assets, days_check(dataset(), daily_tables(dataset()))],
        instance=instance,
        resources={"progress": Progress()},
        tags=range_tags(first, last),
        raise_on_error=False,
    )


def recorded(instance: dg.DagsterInstance, name: str) -> set[str]:
    return set(instance.get_materialized_partitions(dg.AssetKey(["tiny", name])))


def write_one_bad_day(source: Path) -> None:
    for day, action in zip(DAYS, ["view", "explode", "view"], strict=True):
        write(source, day, action)


def failed_steps(result: dg.ExecuteInProcessResult) -> list[str]:
    return [str(event.step_key) for event in result.all_events if event.is_step_failure]


def test_a_bad_day_in_a_range_stops_alone(source):
    write_one_bad_day(source)
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize(instance, DAYS[0], DAYS[-1])
        assert not result.success
        assert failed_steps(result) == ["tiny_every_day"]
        for table in daily_tables(dataset()):
            assert recorded(instance, table) == {DAYS[0], DAYS[2]}
        failure = next(e for e in result.all_events if e.is_step_failure)
        assert "2026-03-02" in failure.step_failure_data.error.to_string()
        checks = {
            (check.asset_key.path[-1], check.check_name, check.partition): check
            for check in result.get_asset_check_evaluations()
        }
        failed = {name for name, check in checks.items() if not check.passed}
        assert failed == {("events", "audit", DAYS[1]), ("events", "every_day", None)}
        assert {(table, "audit", DAYS[2]) for table in daily_tables(dataset())} <= checks.keys()
        (broken,) = checks["events", "audit", DAYS[1]].metadata["broken rows by rule"].records
        assert broken.data == {"rule": "action_known", "rows": 3}
    for table in daily_tables(dataset()):
        assert Lake.of("tiny").days(table) == [dt.date(2026, 3, 1), dt.date(2026, 3, 3)]


def test_a_range_without_a_good_day_fails_at_once_and_nothing_downstream_is_built(source):
    for day in DAYS:
        write(source, day, "explode")
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize(instance, DAYS[0], DAYS[-1])
        assert failed_steps(result) == ["tiny__events"]
        assert recorded(instance, "events") == recorded(instance, "sessions") == set()
    assert Lake.of("tiny").days("sessions") == []


def definitions() -> dg.Definitions:
    assets = [
        *ingestion_assets(dataset()),
        *behavior_assets(dataset()),
        *learning_assets(dataset()),
    ]
    return dg.Definitions(
        assets=assets,
        asset_checks=[days_check(dataset(), daily_tables(dataset()))],
        jobs=stage_jobs(dataset()),
        resources={"progress": Progress(), "pipes": dg.PipesSubprocessClient()},
        executor=dg.in_process_executor,
    )


def daily_job() -> dg.JobDefinition:
    return definitions().resolve_job_def("tiny_daily")


def test_a_run_that_is_tried_again_from_its_last_step_still_fails_for_the_bad_day(source):
    write_one_bad_day(source)
    job, tags = dg.reconstructable(daily_job), range_tags(DAYS[0], DAYS[-1])
    with dg.instance_for_test() as instance:
        landing = definitions().resolve_job_def("tiny_landing")
        assert landing.execute_in_process(instance=instance, tags=tags).success
        with dg.execute_job(job, instance, tags=tags) as failed:
            run_id = failed.run_id
        options = dg.ReexecutionOptions.from_failure(run_id, instance)
        with dg.execute_job(job, instance, tags=tags, reexecution_options=options) as again:
            (failure,) = [event for event in again.all_events if event.is_step_failure]
    assert failure.step_key == "tiny_every_day"
    assert "2026-03-02" in failure.step_failure_data.error.to_string()


def test_the_chain_goes_on_with_the_good_days_and_fails_at_its_end_for_the_bad_one(source):
    write_one_bad_day(source)
    said: list[str] = []
    with dg.DagsterInstance.ephemeral() as instance:
        runner = StageRunner(dataset(), instance, definitions().resolve_job_def)
        with pytest.raises(DaysStoppedError, match="2026-03-02"):
            run_chain(runner, WholeChain(until="inputs"), said.append)
        ended = {run.job_name: run.status.value for run in instance.get_runs()}
    assert ended == {"tiny_landing": "SUCCESS", "tiny_daily": "FAILURE", "tiny_inputs": "SUCCESS"}
    assert any("without the days that the gate stopped" in line for line in said)


def test_the_job_of_the_chain_is_its_stages_and_its_runs_share_a_tag(source):
    write_one_bad_day(source)
    found = definitions()
    job = chain_job(dataset(), found.resolve_job_def)
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(
            instance=instance,
            run_config={"ops": {"settings": {"config": {"until": "inputs"}}}},
            raise_on_error=False,
        )
        assert failed_steps(result) == ["inputs"]
        failure = next(e for e in result.all_events if e.is_step_failure)
        assert "2026-03-02" in failure.step_failure_data.error.to_string()
        runs = instance.get_runs(dg.RunsFilter(tags={CHAIN: result.run_id[:8]}))
        told = {run.job_name: run.tags.get(WHAT) for run in runs}
    assert told == {
        "tiny_chain": None,
        "tiny_landing": "Landing files of 2026-03-01 to 2026-03-03",
        "tiny_daily": "Events, sessions, behavior features of 2026-03-01 to 2026-03-03",
        "tiny_inputs": "Labels and training sequences as of 2026-03-03",
    }


def test_a_refused_day_leaves_the_published_one_and_a_mended_day_replaces_it(source):
    lake = Lake.of("tiny")
    path = lake.day("events", dt.date.fromisoformat(DAYS[0]))
    with dg.DagsterInstance.ephemeral() as instance:
        for action, users, success, rows in [
            ("view", 3, True, 3),
            ("explode", 4, False, 3),
            ("view", 5, True, 5),
        ]:
            write(source, DAYS[0], action, users)
            assert materialize(instance, DAYS[0], DAYS[0]).success is success
            assert pq.read_metadata(path).num_rows == rows
        checks = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey(["tiny", "events"]), "audit"), limit=9
        )
        # Dagster notes a plan beside each outcome.
        outcomes = [check.status.value for check in checks if check.status.value != "PLANNED"]
        assert outcomes == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
        latest = instance.fetch_materializations(dg.AssetKey(["tiny", "events"]), limit=1)
        metadata = latest.records[0].asset_materialization.metadata
        assert metadata["dagster/row_count"].value == 5


def test_every_day_of_a_range_has_checks_of_its_own_that_judge_what_it_published(source):
    for number, day in enumerate(DAYS, start=1):
        write(source, day, "view", users=number)
    events = dg.AssetKey(["tiny", "events"])
    with dg.DagsterInstance.ephemeral() as instance:
        for first in (DAYS[0], DAYS[2]):  # the last day twice, and then alone
            assert materialize(instance, first, DAYS[-1]).success
        made = {
            day: instance.fetch_materializations(
                dg.AssetRecordsFilter(events, asset_partitions=[day]), limit=1
            ).records[0]
            for day in DAYS
        }
        judged = {
            partition: (info.latest_execution_status.value, info.is_current)
            for info in instance.event_log_storage.get_asset_check_partition_info(
                [dg.AssetCheckKey(events, "audit")]
            )
            if (partition := info.partition_key)
        }
        rows = {day: record.asset_materialization.metadata for day, record in made.items()}
    assert judged == dict.fromkeys(DAYS, ("SUCCEEDED", True))
    assert [rows[day]["rows_in"].value for day in DAYS] == [1, 2, 3]


def test_every_day_of_a_range_keeps_its_own_counts(source):
    for number, day in enumerate(DAYS, start=1):
        write(source, day, "view", users=number)
    with dg.DagsterInstance.ephemeral() as instance:
        assert materialize(instance, DAYS[0], DAYS[-1]).success
        found = instance.fetch_materializations(dg.AssetKey(["tiny", "events"]), limit=3).records
    counts = {
        record.partition_key: record.asset_materialization.metadata["dagster/row_count"].value
        for record in found
    }
    assert counts == dict(zip(DAYS, [1, 2, 3], strict=True))
