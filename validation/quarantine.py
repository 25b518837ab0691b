"""Refused rows, whole and with the reason: where they lie, and reading them.

Three stages: `landing` (the row could not be read or dated; one object a landing file), `events`
(the row broke rules and its day went on without it; one object a day), `stopped` (rows that broke
rules in a day that the gate stopped, for inspection; the object goes when the day is published).
"""

import datetime as dt
import functools
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.reading import read_table
from contracts.lake.schemas import QUARANTINE

Stage = Literal["landing", "events", "stopped"]
STAGES: tuple[Stage, ...] = ("landing", "events", "stopped")


def quarantine_day(lake: Lake, stage: Stage, day: dt.date) -> Path:
    """Returns where the refused rows of a day lie."""
    return lake.table("quarantine") / stage / f"{day.isoformat()}.parquet"


def count_refused(lake: Lake) -> list[tuple[dt.date | None, str, str, str, int]]:
    """Returns how many rows were refused, by day, stage, rule and file, in this order.

    A row that breaks several rules counts for each.
    """
    found: list[tuple[dt.date | None, str, str, str, int]] = []
    with connect() as connection:
        for stage in STAGES:
            paths = [str(p) for p in (lake.table("quarantine") / stage).glob("*.parquet")]
            if paths:
                found += connection.execute(
                    "SELECT day, ?, rule, source_file, count(*) FROM (SELECT *, unnest(broken) AS "
                    "rule FROM read_parquet(?)) GROUP BY ALL",
                    [stage, sorted(paths)],
                ).fetchall()
    return sorted(found, key=lambda row: (str(row[0] or ""), *row[1:]))


def read_quarantine(
    lake: Lake,
    stages: Sequence[Stage] = STAGES,
    day: dt.date | None = None,
    limit: int = 1000,
    rule: str | None = None,
    file: str | None = None,
) -> pa.Table:
    """Reads refused rows, by stage, file and line.

    Args:
      lake: whose.
      stages: which of landing, events and stopped.
      day: only rows of this event day; None for all, those without a day included.
      limit: at most so many rows.
      rule: only rows that break this rule.
      file: only rows of this landing file.
    """
    parts = [QUARANTINE.empty_table()]
    tests = [pc.field("source_file") == file] if file else []
    tests += [pc.field("day") == pa.scalar(day, pa.date32())] if day else []
    filters = functools.reduce(operator.and_, tests) if tests else None
    left = limit
    for stage in stages:
        for path in sorted((lake.table("quarantine") / stage).glob("*.parquet")):
            if left > 0:
                rows = read_table(path, filters=filters)
                if rule:
                    rows = rows.filter(_has(rows["broken"], rule))
                parts.append(rows.slice(0, left).cast(QUARANTINE))
                left -= len(parts[-1])
    return pa.concat_tables(parts)


def _has(broken: pa.ChunkedArray, rule: str) -> pa.Array:
    """Tells which lists of rules have a rule."""
    lists = broken.combine_chunks()
    of_row = pc.list_parent_indices(lists).filter(pc.equal(pc.list_flatten(lists), rule))
    return pc.is_in(pa.array(range(len(lists)), of_row.type), of_row)
