"""From landing files to published events, as orchestration does it, and what a reader then sees."""

import datetime as dt
import os
from pathlib import Path

import pyarrow.parquet as pq

from contracts.base.clock import days_between
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.schemas import EVENTS, QUARANTINE
from features.ingestion.dedup import stage_events
from features.ingestion.landing import land
from tests.features.shop_source import shop_like
from validation.gate import Verdict, audit_events, publish

LAX = {"max_broken_share": 1.0, "allow_empty_days": True, "min_value": 0.0}
SHOP = shop_like(partitions={"start": dt.date(2026, 1, 4), "end": dt.date(2026, 1, 7)}, quality=LAX)
DAYS = days_between(dt.date(2026, 1, 4), dt.date(2026, 1, 7))


def ingest(dataset: Dataset = SHOP) -> dict[dt.date, Verdict]:
    """Lands what is new, and builds every day."""
    lake = Lake.of("shop")
    land(dataset, lake, None)
    with lake.staging() as folder:
        verdicts = audit_events(dataset, lake, stage_events(dataset, lake, DAYS, folder), folder)
        for verdict in verdicts.values():
            publish(lake, "events", verdict)
    return verdicts


def ingest_in(home: str) -> None:
    """Ingests in a process of its own."""
    os.environ["FOOTPATH_HOME"] = home
    ingest()


def visible(root: Path) -> dict[str, list[dict]]:
    """Reads every object that a reader's glob finds: all must be whole, in their table's schema."""
    found = {}
    for table, schema in (("events", EVENTS), ("quarantine/*", QUARANTINE)):
        for path in sorted(root.glob(f"{table}/*.parquet")):
            rows = pq.read_table(path)
            assert rows.schema == schema, path
            found[str(path.relative_to(root))] = rows.to_pylist()
    return found
