"""A small source whose files land by day, so that late rows can be put where they hurt."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.base.clock import days_between
from contracts.config.dataset import Dataset
from contracts.config.sources import link_source
from contracts.lake.layout import Lake

FIRST, LAST = dt.date(2026, 3, 1), dt.date(2026, 3, 10)
DAYS = days_between(FIRST, LAST)
TABLES = ("events", "sessions", "user_behavior_features")

# When a row was built says nothing of what is in it.
CLOCKS = ("created", "written_at")


def tiny(**sections: object) -> Dataset:
    """Returns a data set with features over 1 and 3 days, so that closures end within its days."""
    return Dataset.model_validate(
        {
            "name": "tiny",
            "title": "Tiny",
            "timezone": "UTC",
            "partitions": {"start": FIRST, "end": LAST},
            "landing": {
                "url": "{year}-{month}-{day}/*.csv",
                "format": "csv",
                "columns": {"id": "VARCHAR", "who": "VARCHAR", "ts": "VARCHAR"},
            },
            "events": {
                "event_id": "id",
                "user_id": "who",
                "timestamp": "TRY_CAST(ts AS TIMESTAMPTZ)",
                "action": "'view'",
            },
            "actions": ["view"],
            "features": {"windows": [1, 3]},
        }
        | sections
    )


class Deliveries:
    """Landing files of the tiny source below a folder, known to the data set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        link_source("tiny", str(folder))

    def write(self, arrival: dt.date, name: str, rows: Sequence[tuple[str, str, str]]) -> Path:
        """Writes one file of (id, user, timestamp), arriving on a day."""
        path = self.folder / str(arrival) / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = ["id,who,ts", *(",".join(row) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
        return path

    def write_every_day(self) -> None:
        """Writes three users' events of every day, delivered on the day."""
        for day in DAYS:
            times = [(n, hour) for n in range(3) for hour in (9, 20)]
            rows = [(f"{day}-{n}-{hour}", f"u{n}", at(day, hour)) for n, hour in times]
            self.write(day, "on-time", rows)


def at(day: dt.date, hour: float) -> str:
    """Returns an instant of a day as the source writes it."""
    return (dt.datetime.combine(day, dt.time()) + dt.timedelta(hours=hour)).isoformat() + "Z"


def values(lake: Lake, latest: bool = True) -> dict[str, list[dict]]:
    """Returns the rows of every published day but for their clocks; of features the latest."""
    found = {}
    for table in TABLES:
        for day in lake.days(table):
            rows = pq.read_table(lake.day(table, day))
            if "created" in rows.column_names and latest:
                rows = newest(rows)
            kept = [name for name in rows.column_names if name not in CLOCKS]
            found[f"{table} {day}"] = sorted(rows.select(kept).to_pylist(), key=str)
    return found


def newest(rows: pa.Table) -> pa.Table:
    """Returns the latest revision of every user's row."""
    last = rows.group_by("user_id").aggregate([("created", "max")])
    last = last.rename_columns(["user_id", "created"])
    return rows.join(last, ["user_id", "created"], join_type="inner")
