"""From landing files to all daily tables, as orchestration does it but without Dagster."""

import datetime as dt
from functools import partial

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file
from features.behavior.build import stage_features
from features.ingestion.dedup import stage_events
from features.ingestion.landing import land
from features.sessionization.sessions import stage_sessions
from tests.features.late_log import TABLES
from validation.gate import NONE_BROKEN, audit_events, audit_table, publish
from validation.row_quarantine import write_clean


def build(
    dataset: Dataset, days: list[dt.date], tables: tuple[str, ...] = TABLES, first: bool = True
) -> None:
    """Lands what is new (if it comes first), and builds days of some tables."""
    lake = Lake.of(dataset.name)
    if first:
        land(dataset, lake, None)
    stages = {
        "events": stage_events,
        "sessions": stage_sessions,
        "user_behavior_features": stage_features,
    }
    for table in tables:
        audit = (
            partial(audit_events, dataset, lake)
            if table == "events"
            else partial(audit_table, dataset, lake, table)
        )
        with lake.staging() as folder:
            verdicts = audit(stages[table](dataset, lake, days, folder), folder)
            for verdict in verdicts.values():
                assert verdict.passed, verdict.failures
                publish(lake, table, verdict)


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
