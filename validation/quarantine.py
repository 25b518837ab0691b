"""Refused rows, whole and with the reason: where they lie, and reading them.

Three stages: `landing` (the row could not be read or dated; one object a landing file), `events`
(the row broke rules and its day went on without it; one object a day), `stopped` (rows that broke
rules in a day that the gate stopped, for inspection; the object goes when the day is published).
"""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa

from contracts.lake import Lake, read_table
from contracts.tables import QUARANTINE

Stage = Literal["landing", "events", "stopped"]
STAGES: tuple[Stage, ...] = ("landing", "events", "stopped")


def quarantine_day(lake: Lake, stage: Stage, day: dt.date) -> Path:
    """Returns where the refused rows of a day lie."""
    return lake.table("quarantine") / stage / f"{day.isoformat()}.parquet"


def read_quarantine(
    lake: Lake, stages: Sequence[Stage] = STAGES, day: dt.date | None = None, limit: int = 1000
) -> pa.Table:
    """Reads refused rows, by stage, file and line.

    Args:
      lake: whose.
      stages: which of landing, events and stopped.
      day: only rows of this event day; None for all, those without a day included.
      limit: at most so many rows.
    """
    parts = [QUARANTINE.empty_table()]
    filters = [("day", "=", day)] if day else None
    left = limit
    for stage in stages:
        for path in sorted((lake.table("quarantine") / stage).glob("*.parquet")):
            if left > 0:
                parts.append(read_table(path, filters=filters).slice(0, left).cast(QUARANTINE))
                left -= len(parts[-1])
    return pa.concat_tables(parts)
