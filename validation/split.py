"""Staged days of events -> their clean rows, and the broken ones with the reasons.

In:  audited days. Out: for each a file of clean events (schema EVENTS) in the order in which they
were staged, and one of refused rows (schema QUARANTINE) if there are any. Refused rows come from
one query over as many days as are counted at a time; rows stream, so that a day need not fit into
memory.
"""

import datetime as dt
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.base.sql import literal
from contracts.lake.schemas import BUILT_FROM, EVENTS, QUARANTINE, ROWS_STAGED
from validation.counts import AuditedDays

BATCH_ROWS = 200_000


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
    raw = ", ".join(f"'{column}': staged.{column}" for column in EVENTS.names)
    batches = rows.connection.sql(
        "SELECT day, place_in_file, staged.source_file, staged.source_line, 'events' AS stage, "
        f"{_reasons(rows, 'name')} AS broken, to_json({{{raw}}})::VARCHAR AS raw, "
        f"array_to_string({_reasons(rows, 'sentence')}, '; ') AS detail "
        f"FROM {rows.view} WHERE {rows.broken} ORDER BY day, place_in_file"
    ).to_arrow_reader(BATCH_ROWS)
    places = {}
    for day, parts in itertools.groupby(_by_day(batches), key=lambda part: part[0]):
        found = []
        with pq.ParquetWriter(folder / f"{day}.parquet", QUARANTINE, compression="zstd") as writer:
            for _, part in parts:
                writer.write_table(part.select(QUARANTINE.names).cast(QUARANTINE))
                found.append(part["place_in_file"].to_numpy())
        places[day] = np.concatenate(found)
    return places


def write_clean(staged: Path, broken: np.ndarray, target: Path) -> None:
    """Writes the events of a staged day but for its broken rows.

    Args:
      staged: schema FRAGMENT.
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
            writer.write_table(pa.Table.from_batches([batch]).select(EVENTS.names).cast(EVENTS))
            start = end
        # What the day was built from stays with it; the rows before the gate account for repeats.
        told = file.metadata.metadata or {}
        writer.add_key_value_metadata(
            {key: told[key] for key in (BUILT_FROM,) if key in told}
            | {ROWS_STAGED: str(file.metadata.num_rows).encode()}
        )


def _reasons(rows: AuditedDays, attribute: str) -> str:
    """Returns the SQL of a list that says of each rule that a row breaks its name or sentence."""
    told = ", ".join(
        f"CASE WHEN {rule.broken} THEN {literal(getattr(rule, attribute))} END"
        for rule in rows.audit.rules
    )
    return f"list_filter([{told}], lambda reason: reason IS NOT NULL)"


def _by_day(batches: pa.RecordBatchReader) -> Iterator[tuple[dt.date, pa.Table]]:
    """Cuts each batch where its day changes."""
    for batch in batches:
        runs = pc.run_end_encode(batch.column("day"))
        start = 0
        for day, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
            yield day, pa.Table.from_batches([batch.slice(start, end - start)])
            start = end
