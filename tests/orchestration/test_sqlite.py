"""Dagster's events in SQLite: what is stored together is what Dagster stores one by one."""

from pathlib import Path

import dagster as dg
import pytest

from orchestration.instance import open_instance
from orchestration.sqlite import MOST_ENGINES, SqliteEventLog

DAYS = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-03-01")
RANGE = {"dagster/asset_partition_range_start": "2026-01-03",
         "dagster/asset_partition_range_end": "2026-02-20"}  # fmt: skip
KEYS = [dg.AssetKey("first"), dg.AssetKey("second")]


def _asset(name: str, deps: list[str]) -> dg.AssetsDefinition:
    @dg.asset(
        name=name,
        deps=deps,
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[dg.AssetCheckSpec("is_small", asset=name)],
    )
    def made(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        for number, day in enumerate(context.partition_keys):
            context.add_asset_metadata({"dagster/row_count": number}, partition_key=day)
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=name == "first")])

    return made


def _run(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    assets = [_asset("first", []), _asset("second", ["first"])]
    defs = dg.Definitions(assets=assets, jobs=[dg.define_asset_job("both")])
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    job = defs.resolve_job_def("both")
    return job.execute_in_process(instance=instance, run_config=quiet, tags=RANGE)


def _told(instance: dg.DagsterInstance, run_id: str) -> dict:
    """All that others read of a run, but for instants and numbers of records."""
    run = instance.get_run_by_id(run_id)
    assert run
    events = [entry.get_dagster_event() for entry in instance.all_logs(run_id)]
    # Events of a run are planned in the order of a set.
    log = sorted(str((e.event_type_value, e.asset_key, e.partition)) for e in events)
    return {"status": run.status, "log": log} | {key: _of_asset(instance, key) for key in KEYS}


def _of_asset(instance: dg.DagsterInstance, key: dg.AssetKey) -> list:
    latest = instance.get_latest_materialization_event(key)
    assert latest
    assert latest.asset_materialization
    check = dg.AssetCheckKey(key, "is_small")
    checked = instance.event_log_storage.get_latest_asset_check_execution_by_key([check])
    return [
        sorted(instance.get_materialized_partitions(key)),
        latest.asset_materialization.partition,
        {
            record.partition_key: record.asset_materialization.metadata
            for record in instance.fetch_materializations(key, limit=100).records
            if record.asset_materialization
        },
        checked[check].status,
    ]


def test_a_range_is_recorded_as_dagster_records_it(
    lake_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    batches: list[int] = []
    store = SqliteEventLog.store_event_batch
    monkeypatch.setattr(
        SqliteEventLog,
        "store_event_batch",
        lambda log, events: (batches.append(len(events)), store(log, events)),
    )
    (tmp_path / "plain").mkdir()
    with open_instance() as ours, dg.DagsterInstance.local_temp(str(tmp_path / "plain")) as plain:
        assert type(ours.event_log_storage) is SqliteEventLog
        assert type(plain.event_log_storage) is not SqliteEventLog
        found, wanted = _run(ours), _run(plain)
        assert found.success
        assert wanted.success
        assert _told(ours, found.run_id) == _told(plain, wanted.run_id)
    assert sorted(batches) == [49, 49, 100]  # each table's days, and what was planned


def test_another_process_sees_a_run_while_its_index_is_open(
    lake_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    with open_instance() as writer, open_instance() as reader:
        runs = [_run(writer).run_id for _ in range(2)]
        for run in runs:
            assert _told(reader, run)["log"] == _told(writer, run)["log"]
        assert reader.get_materialized_partitions(KEYS[0]) == DAYS_OF_RANGE
        log = writer.event_log_storage
        assert isinstance(log, SqliteEventLog)
        for number in range(2 * MOST_ENGINES):
            log.get_logs_for_run(f"run-{number}")
        assert len(log._engines) == MOST_ENGINES
        assert len(log.get_logs_for_run(runs[0])) > 100


DAYS_OF_RANGE = {key for key in DAYS.get_partition_keys() if "2026-01-03" <= key <= "2026-02-20"}
