"""Dagster's runs of a data set: which may go without a partition looking unbuilt.

Deleting a run deletes its events, and with them what says that a partition was materialized: of a
range of 21 days, none was left. So the last run to make a partition of an asset stays for ever, and
so does the last that failed to; of old runs that stay, the output of their processes goes.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from contracts.config.dataset import Dataset, dataset_names
from contracts.lake.reading import tree
from orchestration.dagster_private import delete_output, output_folder, run_files
from orchestration.retention.report import Thing

RUNS, OUTPUT = "Dagster's runs", "output of Dagster's runs"
FINISHED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]
UNFINISHED = [status for status in dg.DagsterRunStatus if status not in FINISHED]
_PAGE = 500


def run_things(dataset: Dataset, instance: dg.DagsterInstance, now: float) -> Iterator[Thing]:
    """Yields the finished runs of a data set, oldest last; `name` is the run's id."""
    days = dataset.automation.keep.runs_days
    last: dict[str, str] | None = None
    for record in _runs(dataset, instance, FINISHED):
        run, ended = record.dagster_run.run_id, record.end_time or record.start_time
        ended = ended or record.create_timestamp.timestamp()
        if now - ended < days * 86400:
            why = f"ended in the last {days} days"
            yield Thing(RUNS, run, _bytes(instance, run), ended, why, "")
            continue
        last = _last_runs(dataset, instance) if last is None else last
        why, size = last.get(run, ""), _bytes(instance, run)
        output = sum(found.bytes for found in _output(instance, run))
        goes = f"ended more than {days} days ago, and is the last of nothing"
        yield Thing(RUNS, run, size + (0 if why else output), ended, why, goes)
        if why and output:
            goes = f"of a run that ended more than {days} days ago, and stays"
            yield Thing(OUTPUT, run, output, ended, "", goes)


def remove_run(instance: dg.DagsterInstance, thing: Thing) -> None:
    """Deletes a run with its events and its output, or its output alone.

    On SQLite each run has a file of events, which Dagster empties and leaves behind.
    """
    delete_output(instance, thing.name)
    if thing.kind == RUNS:
        instance.delete_run(thing.name)
        for path in run_files(instance, thing.name):
            path.unlink(missing_ok=True)


def unfinished_runs(dataset: Dataset, instance: dg.DagsterInstance) -> list[str]:
    """Ids of the runs of a data set that are queued or under way."""
    return [record.dagster_run.run_id for record in _runs(dataset, instance, UNFINISHED)]


def _runs(
    dataset: Dataset, instance: dg.DagsterInstance, statuses: list[dg.DagsterRunStatus]
) -> Iterator[dg.RunRecord]:
    """Yields the runs of a data set's jobs and assets that have one of some statuses."""
    slugs = sorted((re.sub(r"\W", "_", name) for name in dataset_names()), key=len, reverse=True)
    cursor = None
    while records := instance.get_run_records(
        dg.RunsFilter(statuses=statuses), limit=_PAGE, cursor=cursor
    ):
        for record in records:
            run = record.dagster_run
            owner = next((slug for slug in slugs if run.job_name.startswith(f"{slug}_")), None)
            if owner is None and run.asset_selection:  # a run of assets that were picked by hand
                owner = next(iter(run.asset_selection)).path[0]
            if owner == dataset.slug:
                yield record
        cursor = records[-1].dagster_run.run_id


def _last_runs(dataset: Dataset, instance: dg.DagsterInstance) -> dict[str, str]:
    """Runs that were the last to make something, or to try to, and of which asset."""
    found: dict[str, str] = {}
    log = instance.event_log_storage
    for key in instance.get_asset_keys(prefix=[dataset.slug]):
        why = f"the last run to make a partition of {key.path[-1]}"
        ids = list(
            log.get_latest_storage_id_by_partition(
                key, dg.DagsterEventType.ASSET_MATERIALIZATION
            ).values()
        )
        for first in range(0, len(ids), _PAGE):
            chosen = dg.AssetRecordsFilter(asset_key=key, storage_ids=ids[first : first + _PAGE])
            for record in instance.fetch_materializations(chosen, limit=_PAGE).records:
                found.setdefault(record.run_id, why)
        newest = instance.get_latest_materialization_event(key)
        if newest:
            found.setdefault(newest.run_id, f"the last run to make {key.path[-1]}")
        attempts = log.get_latest_asset_partition_materialization_attempts_without_materializations(
            key
        )
        for run, _ in attempts.values():
            found.setdefault(run, f"the last that tried to make a partition of {key.path[-1]}")
    return found


def _bytes(instance: dg.DagsterInstance, run: str) -> int:
    """Bytes of a run's own file of events; none where all runs share a database."""
    return sum(path.stat().st_size for path in run_files(instance, run))


def _output(instance: dg.DagsterInstance, run: str) -> Iterator:
    folder: Path | None = output_folder(instance, run)
    if folder:
        yield from tree(folder).values()
