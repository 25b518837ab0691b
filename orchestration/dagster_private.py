"""Every name that we take from Dagster and that it does not export: look here when it moves."""

from pathlib import Path
from typing import Any

import dagster as dg

# What PipesSubprocessClient raises when its process ends with an error; there is no public base
# but DagsterError, which would swallow faults of our own as well.
# Metadata of an output of which no materialization is recorded. Without an output, what depends on
# the step would be skipped; with one, every partition of the run would count as materialized.
# The materialization that a check has judged, of which AssetCheckEvaluation takes one.
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as Target,
)
from dagster._core.definitions.source_asset import (
    SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION as NOT_RECORDED,
)
from dagster._core.errors import DagsterPipesExecutionError

# What orchestration/sqlite.py derives from; beside them it takes `_connect`,
# `_initialized_dbs`, `_initdb`, `_store_asset_event`, `_store_asset_event_tags` of the event log
# and `_event_log_storage` of the storage, as orchestration/postgres.py does.
from dagster._core.storage.event_log.sqlite.sqlite_event_log import (
    INDEX_SHARD_NAME as INDEX_SHARD,
)
from dagster._core.storage.event_log.sqlite.sqlite_event_log import (
    SqliteEventLogStorage as EventLogSqlite,
)
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS as BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage as StorageSqlite
from dagster._core.storage.sqlite_storage import _event_logs_directory as event_logs_directory

__all__ = [
    "BUSY_TIMEOUT_SECONDS",
    "INDEX_SHARD",
    "NOT_RECORDED",
    "DagsterPipesExecutionError",
    "EventLogSqlite",
    "StorageSqlite",
    "delete_output",
    "develop",
    "event_logs_directory",
    "latest_materializations",
    "output_folder",
    "run_files",
]


def develop(arguments: list[str], webserver: str) -> None:
    """Runs `dagster dev` with another module in the place of its webserver's."""
    from dagster._cli import dev

    start: Any = vars(dev)["open_ipc_subprocess"]  # it has no option for another webserver

    def start_ours(command: list[str], **how: Any) -> Any:
        ours = [webserver if part == "dagster_webserver" else part for part in command]
        return start(ours, **how)

    dev.open_ipc_subprocess = start_ours  # pyright: ignore[reportPrivateImportUsage]
    dev.dev_command(arguments, standalone_mode=False)


def run_files(instance: dg.DagsterInstance, run_id: str) -> list[Path]:
    """Files of a run's events on SQLite; none where runs share a database.

    Dagster deletes what is in them and leaves them behind.
    """
    path_of = getattr(instance.event_log_storage, "path_for_shard", None)
    shard = Path(path_of(run_id)) if path_of else None
    names = [f"{shard}{suffix}" for suffix in ("", "-wal", "-shm", "-journal")] if shard else []
    return [path for name in names if (path := Path(name)).exists()]


def output_folder(instance: dg.DagsterInstance, run_id: str) -> Path | None:
    """Where what a run has written to its console lies; None where that is not on a disk."""
    manager: Any = instance.compute_log_manager
    path_of = getattr(manager, "get_captured_local_path", None)
    return Path(path_of([run_id, "compute_logs", "_"], "out")).parent.parent if path_of else None


def delete_output(instance: dg.DagsterInstance, run_id: str) -> None:
    """Deletes what a run has written to its console."""
    manager: Any = instance.compute_log_manager
    manager.delete_logs(prefix=[run_id])


def latest_materializations(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: list[str]
) -> dict[str, Target]:
    """What the checks of some partitions refer to: the latest materialization of each."""
    found: dict[str, Target] = {}
    if not partitions:
        return found
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=partitions)
    # The newest come first, and a run has just made one of each.
    records = instance.fetch_materializations(wanted, limit=len(partitions)).records
    for partition in {*partitions} - {str(record.partition_key) for record in records}:
        wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition])
        records = [*records, *instance.fetch_materializations(wanted, limit=1).records]
    for record in records:
        target = Target(
            storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp
        )
        found.setdefault(str(record.partition_key), target)
    return found
