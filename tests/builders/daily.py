"""From landing files to daily tables, as orchestration does it but without Dagster."""

import datetime as dt
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.base.clock import days_between
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file
from features.behavior.build import stage_features
from features.behavior.tables import FEATURE_TABLES
from features.ingestion.dedup import stage_events
from features.ingestion.landing import land
from features.sessionization.sessions import stage_sessions
from validation.gate import NONE_BROKEN, Verdict, audit_events, audit_table, publish
from validation.row_quarantine import write_clean

STAGES = {
    "events": stage_events,
    "sessions": stage_sessions,
} | {name: functools.partial(stage_features, table=table) for name, table in FEATURE_TABLES.items()}
TABLES = ("events", "sessions", "user_behavior_features")  # that most tests are content with


def gate(
    dataset: Dataset, lake: Lake, table: str, staged: Mapping[dt.date, Any], folder: Path
) -> dict[dt.date, Verdict]:
    """Audits staged days, and publishes what passes."""
    if table == "events":
        verdicts = audit_events(dataset, lake, staged, folder)
    else:
        verdicts = audit_table(dataset, lake, table, staged, folder)
    publish(lake, table, verdicts, folder)
    return verdicts


def build_days(
    dataset: Dataset, lake: Lake, table: str, days: list[dt.date]
) -> dict[dt.date, Verdict]:
    """Stages, audits and publishes days of a table."""
    with lake.staging() as folder:
        return gate(dataset, lake, table, STAGES[table](dataset, lake, days, folder), folder)


def build(
    dataset: Dataset, lake: Lake, days: list[dt.date], tables: tuple[str, ...] = TABLES
) -> None:
    """Builds days of some tables, each of which must pass."""
    for table in tables:
        for verdict in build_days(dataset, lake, table, days).values():
            assert verdict.passed, verdict.failures


def ingest(dataset: Dataset, days: list[dt.date] | None = None) -> dict[dt.date, Verdict]:
    """Lands what is new, and builds events: of all days of the data set, or of the given ones."""
    lake, span = Lake.of(dataset.name), dataset.partitions
    land(dataset, lake, None)
    days = days or days_between(span.start, span.end or span.start)
    return build_days(dataset, lake, "events", days)


def ingest_in(home: str, dataset: Dataset) -> None:
    """Ingests in a process of its own."""
    os.environ["FOOTPATH_HOME"] = home
    ingest(dataset)


def build_unaudited(dataset: Dataset, days: list[dt.date], tables: tuple[str, ...]) -> None:
    """Builds days of events or sessions past the gate's audit, where no row can break a rule."""
    lake = Lake.of(dataset.name)
    for table in tables:
        with lake.staging() as folder:
            if table == "events":
                staged = {}
                for day, part in stage_events(dataset, lake, days, folder / "staged").items():
                    staged[day] = folder / f"{day}.parquet"
                    write_clean(part.path, NONE_BROKEN, staged[day])
            else:
                staged = stage_sessions(dataset, lake, days, folder / "staged")
            for day, path in staged.items():
                publish_file(path, lake.day(table, day))


def values(lake: Lake) -> dict[str, list[dict]]:
    """The rows of every published day but for their clocks; of features the latest revision."""
    found = {}
    for table in STAGES:
        for day in lake.days(table):
            rows = pq.read_table(pa.BufferReader(lake.day(table, day).read_bytes()))
            if "created" in rows.column_names:
                rows = _newest(rows)
            kept = [n for n in rows.column_names if n not in ("created", "written_at")]
            found[f"{table} {day}"] = sorted(rows.select(kept).to_pylist(), key=str)
    return found


def _newest(rows: pa.Table) -> pa.Table:
    key = rows.column_names[0]
    last = rows.group_by(key).aggregate([("created", "max")])
    last = last.rename_columns([key, "created"])
    return rows.join(last, [key, "created"], join_type="inner")
