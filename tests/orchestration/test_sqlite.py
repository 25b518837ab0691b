"""Dagster's events in SQLite: what is stored together is what Dagster stores one by one."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from orchestration.instance import open_instance
from orchestration.sqlite import MOST_ENGINES, SqliteEventLog, stored_together

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
        check_specs=[
            dg.AssetCheckSpec("is_small", asset=name),
            dg.AssetCheckSpec("is_odd", asset=name, partitions_def=DAYS),
        ],
    )
    def made(context: dg.AssetExecutionContext) -> Iterator:
        for number, day in enumerate(context.partition_keys):
            context.add_asset_metadata({"dagster/row_count": number}, partition_key=day)
        yield dg.MaterializeResult(
            check_results=[dg.AssetCheckResult(check_name="is_small", passed=name == "first")]
        )
        with stored_together(context.instance):
            for number, day in enumerate(context.partition_keys):
                yield dg.AssetCheckEvaluation(
                    context.asset_key, "is_odd", passed=number % 2 == 1, partition=day
                )
        yield dg.Output(None, output_name=f"{name}_is_odd")

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
    log = instance.event_log_storage
    checked = log.get_latest_asset_check_execution_by_key([check])
    by_day = log.get_asset_check_execution_history(dg.AssetCheckKey(key, "is_odd"), limit=100)
    return [
        {record.partition: record.status for record in by_day},
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
    # Each table's days, what was planned, and each table's checks of days.
    assert sorted(batches) == [49, 49, 49, 49, 102]


def told_by(instance: dg.DagsterInstance, run_id: str) -> list[str | None]:
    """Days that a run has checked, and its own words, in the order of its log."""
    found = []
    for entry in instance.all_logs(run_id):
        if entry.dagster_event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            found.append(entry.get_dagster_event().asset_check_evaluation_data.partition)
        elif entry.user_message == "between":
            found.append("between")
    return found


def test_what_is_held_is_stored_before_what_follows_it_and_when_its_block_fails(
    lake_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))

    @dg.asset(partitions_def=DAYS, check_specs=[dg.AssetCheckSpec("is_odd", asset="table")])
    def table(context: dg.AssetExecutionContext) -> Iterator:
        checks = [
            dg.AssetCheckEvaluation(context.asset_key, "is_odd", passed=False, partition=day)
            for day in ("2026-01-03", "2026-01-04", "2026-01-05")
        ]
        with stored_together(context.instance):
            yield checks[0]
            yield checks[1]
            assert not told_by(context.instance, context.run_id)
            context.log.info("between")
            assert told_by(context.instance, context.run_id) == [
                "2026-01-03",
                "2026-01-04",
                "between",
            ]
            yield checks[2]
            raise RuntimeError("the block fails")

    with open_instance() as instance:
        result = dg.materialize(
            [table], instance=instance, partition_key="2026-01-03", raise_on_error=False
        )
        assert not result.success
        told = told_by(instance, result.run_id)
    assert told == ["2026-01-03", "2026-01-04", "between", "2026-01-05"]


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
