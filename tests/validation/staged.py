"""Staged days for tests of the gate, written as the features room stages them, and audited."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.schemas import FEATURE_CLOCKS, SESSIONS, STAGED
from features.ingestion.dedup import StagedEvents
from tests.builders.daily import gate
from tests.builders.datasets import dataset_like
from validation.gate import Verdict

SHOP = dataset_like("shop", quality={"min_value": 0, "max_broken_share": 0.3})
DAY = dt.date(2026, 1, 5)
START = dt.datetime(2026, 1, 4, 23, tzinfo=dt.UTC)  # of DAY in Berlin
END = START + dt.timedelta(days=1)
HOUR = dt.timedelta(hours=1)

FEATURES = pa.schema(
    [
        pa.field("user_id", pa.string()),
        *FEATURE_CLOCKS,
        pa.field("events_1d", pa.int64()),
        pa.field("value_1d", pa.float64()),
    ]
)


def event(event_id: str | None = "e", **fields: object) -> dict:
    """A row that breaks no rule of the shop, but for the fields given."""
    good = {
        "event_id": event_id,
        "user_id": "u",
        "timestamp": START + HOUR,
        "sequence": 0,
        "action": "view",
        "item_id": "i",
        "value": 1.0,
        "session_id": None,
        "properties": [("query", "hat")],
        "source_file": "file",
        "source_line": 1,
    }
    return good | fields


def session(session_id: str | None = "s", **fields: object) -> dict:
    """A session that breaks no rule, but for the fields given."""
    good = {
        "session_id": session_id,
        "user_id": "u",
        "started_at": START + HOUR,
        "ended_at": START + 2 * HOUR,
        "closes_at": START + 3 * HOUR,
        "length": 2,
        "duration_seconds": 3600.0,
        "actions": ["view", "view"],
        "item_ids": ["i", None],
        "distinct_items": 1,
        "value": -1.0,
        "is_cut": False,
    }
    return good | fields


def feature(user_id: str | None = "u", **fields: object) -> dict:
    """A row of features that breaks no rule, but for the fields given."""
    good = {
        "user_id": user_id,
        "event_timestamp": END,
        "created": END + HOUR,
        "written_at": END + HOUR,
        "events_1d": 3,
        "value_1d": -2.5,
    }
    return good | fields


def nullable(schema: pa.Schema) -> pa.Schema:
    """A schema in which every column may be null, for rows that break it."""
    return pa.schema([field.with_nullable(True) for field in schema], schema.metadata)


def write(folder: Path, day: dt.date, rows: list[dict], schema: pa.Schema) -> Path:
    """Writes a staged day."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{day}.parquet"
    pq.write_table(pa.Table.from_pylist(rows, nullable(schema)), path)
    return path


def stage_events(folder: Path, days: dict[dt.date, list[dict]], duplicates: int = 0) -> dict:
    """Writes staged days of events."""
    return {
        day: StagedEvents(write(folder, day, rows, STAGED), len(rows) + duplicates, duplicates)
        for day, rows in days.items()
    }


def stage_sessions(folder: Path, rows: list[dict]) -> dict[dt.date, Path]:
    """Writes a staged day of sessions."""
    return {DAY: write(folder, DAY, rows, SESSIONS)}


def stage_features(folder: Path, rows: list[dict]) -> dict[dt.date, Path]:
    """Writes a staged day of behavior features."""
    return {DAY: write(folder, DAY, rows, FEATURES)}


def gate_events(
    lake: Lake,
    days: dict[dt.date, list[dict]],
    dataset: Dataset = SHOP,
    duplicates: int = 0,
) -> dict[dt.date, Verdict]:
    """Stages, audits and publishes days of events."""
    with lake.staging() as folder:
        return gate(dataset, lake, "events", stage_events(folder, days, duplicates), folder)
