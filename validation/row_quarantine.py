"""Quarantine: rows that were refused, whole and with the reason; writing and reading them.

Three stages: `landing` (the row could not be read or dated; one object a landing file), `events`
(the row broke rules and its day went on without it; one object a day), `stopped` (rows that broke
rules in a day that the gate stopped, for inspection; the object goes when the day is published).

The gate parts a staged day of events into clean rows, in the order in which they were staged, and
refused ones: from one query over as many days as are counted at a time, and as a stream, so that a
day need not fit into memory.
"""

import datetime as dt
import functools
import itertools
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.base.batches import runs, shaped
from contracts.base.sql import literal, parquet
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.reading import read_table
from contracts.lake.schemas import BUILT_FROM, EVENT_FIELDS, EVENTS, QUARANTINE, ROWS_STAGED
from validation.counts import AuditedDays

Stage = Literal["landing", "events", "stopped"]
STAGES: tuple[Stage, ...] = ("landing", "events", "stopped")

BATCH_ROWS = 200_000


def quarantine_folder(lake: Lake, stage: Stage) -> Path:
    """Where the refused rows of a stage lie."""
    return lake.table("quarantine") / stage


def quarantine_day(lake: Lake, stage: Stage, day: dt.date) -> Path:
    """Where the refused rows of a day lie."""
    return quarantine_folder(lake, stage) / f"{day.isoformat()}.parquet"


def count_refused(lake: Lake) -> list[tuple[dt.date | None, str, str, str, int]]:
    """How many rows were refused, by day, stage, rule and file, in this order.

    A row that breaks several rules counts for each.
    """
    found: list[tuple[dt.date | None, str, str, str, int]] = []
    with connect() as connection:
        for stage in STAGES:
            paths = [str(p) for p in quarantine_folder(lake, stage).glob("*.parquet")]
            if paths:
                found += connection.execute(
                    "SELECT day, ?, rule, source_file, count(*) FROM (SELECT *, unnest(broken) AS "
                    f"rule FROM {parquet('?')}) GROUP BY ALL",
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
        for path in sorted(quarantine_folder(lake, stage).glob("*.parquet")):
            if left > 0:
                rows = read_table(path, filters=filters)
                if rule:
                    rows = rows.filter(_has(rows["broken"], rule))
                parts.append(rows.slice(0, left).cast(QUARANTINE))
                left -= len(parts[-1])
    return pa.concat_tables(parts)


def _has(broken: pa.ChunkedArray, rule: str) -> pa.Array:
    """Which lists of rules have a rule."""
    lists = broken.combine_chunks()
    of_row = pc.list_parent_indices(lists).filter(pc.equal(pc.list_flatten(lists), rule))
    return pc.is_in(pa.array(range(len(lists)), of_row.type), of_row)


def write_refused(rows: AuditedDays, folder: Path) -> dict[dt.date, np.ndarray]:
    """Writes `<folder>/<day>.parquet` for every day with broken rows.

    Returns:
      For each of these days the places of its broken rows in the staged file, from 0, ascending.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places: dict[dt.date, np.ndarray] = {}
    for part in rows.parts():
        places |= _write_refused(part, folder)
    return places


def _write_refused(rows: AuditedDays, folder: Path) -> dict[dt.date, np.ndarray]:
    raw = ", ".join(f"'{column}': staged.{column}" for column in EVENT_FIELDS)
    batches = rows.connection.sql(
        "SELECT day, place_in_file, staged.source_file, staged.source_line, 'events' AS stage, "
        f"{_reasons(rows, 'name')} AS broken, to_json({{{raw}}})::VARCHAR AS raw, "
        f"array_to_string({_reasons(rows, 'sentence')}, '; ') AS detail "
        f"FROM {rows.view} WHERE {rows.broken} ORDER BY day, place_in_file"
    ).to_arrow_reader(BATCH_ROWS)
    places = {}
    for (day,), parts in itertools.groupby(runs(batches), key=lambda part: part[0]):
        found = []
        with pq.ParquetWriter(folder / f"{day}.parquet", QUARANTINE, compression="zstd") as writer:
            for _, part in parts:
                writer.write_table(shaped(part, QUARANTINE))
                found.append(part["place_in_file"].to_numpy())
        places[day] = np.concatenate(found)
    return places


def write_clean(staged: Path, broken: np.ndarray, target: Path) -> None:
    """Writes the events of a staged day but for its broken rows.

    Args:
      staged: schema STAGED.
      broken: places of broken rows, from 0, ascending.
      target: schema EVENTS, in the same order.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    start = 0
    with (
        pq.ParquetFile(staged) as file,
        pq.ParquetWriter(target, EVENTS, compression="zstd") as writer,
    ):
        for batch in file.iter_batches(BATCH_ROWS, columns=EVENTS.names):
            end = start + len(batch)
            here = broken[np.searchsorted(broken, start) : np.searchsorted(broken, end)]
            if len(here):
                is_clean = np.ones(len(batch), bool)
                is_clean[here - start] = False
                batch = batch.filter(pa.array(is_clean))
            writer.write_table(shaped(pa.Table.from_batches([batch]), EVENTS))
            start = end
        # What the day was built from stays with it; the rows before the gate tell duplicates.
        told = file.metadata.metadata or {}
        writer.add_key_value_metadata(
            {key: told[key] for key in (BUILT_FROM,) if key in told}
            | {ROWS_STAGED: str(file.metadata.num_rows).encode()}
        )


def _reasons(rows: AuditedDays, attribute: str) -> str:
    """The SQL of a list that says of each rule that a row breaks its name or sentence."""
    told = ", ".join(
        f"CASE WHEN {rule.broken} THEN {literal(getattr(rule, attribute))} END"
        for rule in rows.audit.rules
    )
    return f"list_filter([{told}], lambda reason: reason IS NOT NULL)"
