"""Deduplication: fragments -> the staged events of a day, each event once.

In:  the committed fragments of some days. Out: one staged Parquet file a day (schema STAGED, with
`event_id` filled), sorted by user, time and sequence, and how many rows were duplicates. The gate
judges what is staged (validation/gate.py); a day without a fragment has no rows, and the gate
decides.

What is a duplicate. Where the source has event ids, an id is one event of its day: of several
contents that claim it, the one that was delivered first counts, that is, the earliest arrival, then
the first file by name, then the first line. A row whose id is missing duplicates nothing: it goes
on to the gate. Where the source has no ids, identical rows of one file are different events, and
rows of several files are deliveries of the same ones: each content counts as often as in the file
that has it most often. Its id is then a hash of the content and its number among the identical
rows of its file, and does not depend on the file. A declared sequence is part of the content.

Events of one instant. A user's events of the same microsecond are in the order that the YAML's
`events.sequence` gives, and then of delivery: the earliest arrival, then the file's path in natural
order (part-2 before part-10), then the line, then the element that `explode` made of it. An event
that was delivered several times stands where it was first. `sequence` is the place in that order,
counted from 0 for each user and instant. So it follows from what was delivered alone, whatever was
landed first or together, and needs next to no bytes: it is 0 of every event that is alone.

An id is looked for within its day. One that is delivered again with a timestamp of another day is
an event of either: to tell, each day would have to be built from the ids of all the others, and a
corrected timestamp would make days stale that lost no row. A source that corrects timestamps gives
the corrected file in place of the old one, which replaces all that came of it.
"""

import datetime as dt
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.base.batches import chunks
from contracts.base.sql import literal, name, names, parquet
from contracts.config.dataset import Dataset
from contracts.lake.copies import fetched
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.schemas import EVENT_FIELDS, STAGED
from features.daily import BATCH_ROWS, write_days
from features.ingestion.manifest import Fragment, committed_fragments
from features.provenance import Inputs, digest_inputs

# Fragment bytes, compressed, that one query sees: days beyond it are a query of their own.
CHUNK_BYTES = 16 << 20


@dataclass(frozen=True)
class StagedEvents:
    """A day's events before the gate."""

    path: Path
    fragment_rows: int
    duplicates: int  # rows that were left out


def stage_events(
    dataset: Dataset, lake: Lake, days: list[dt.date], folder: Path
) -> dict[dt.date, StagedEvents]:
    """Builds the events of each day from all its fragments, whenever they arrived.

    Args:
      dataset: tells whether events have ids.
      lake: holds the landed fragments.
      days: event days, in any order.
      folder: gets one Parquet file a day.

    Returns:
      What was staged, for every day; fragment_rows = rows in the file + duplicates.
    """
    days = sorted(set(days))
    fragments: dict[dt.date, list[Fragment]] = {day: [] for day in days}
    for fragment in committed_fragments(lake, days):
        fragments[fragment.day].append(fragment)
    sizes = ((day, sum(f.size for f in fragments[day])) for day in days)
    staged: dict[dt.date, StagedEvents] = {}
    with connect() as connection:
        for chunk in chunks(sizes, CHUNK_BYTES):
            parts = [fragment for day in chunk for fragment in fragments[day]]
            inputs = {
                day: digest_inputs(
                    {f.manifest.identity: f.manifest.digest(day) for f in fragments[day]}
                )
                for day in chunk
            }
            staged |= _stage_chunk(connection, dataset, inputs, parts, folder)
    return staged


def _inputs(fragments: list[Fragment]) -> Inputs:
    return digest_inputs({f.manifest.identity: f.manifest.digest(f.day) for f in fragments})


def _stage_chunk(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    inputs: dict[dt.date, Inputs],
    fragments: list[Fragment],
    folder: Path,
) -> dict[dt.date, StagedEvents]:
    """Builds some days in one pass."""
    delivered: dict[dt.date, int] = {}
    rows = iter(())
    if fragments:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as copies:
            _load(connection, fragments, Path(copies))
        counts = connection.execute("SELECT day, count(*) FROM delivered GROUP BY day").fetchall()
        delivered = dict(counts)
        rows = _numbered(connection.sql(_distinct_events(dataset)).to_arrow_reader(BATCH_ROWS))
    staged = {}
    for day, path in write_days(rows, STAGED, folder, list(inputs), inputs).items():
        in_fragments = delivered.get(day, 0)
        kept = pq.read_metadata(path).num_rows
        staged[day] = StagedEvents(path, in_fragments, in_fragments - kept)
    return staged


def _load(connection: duckdb.DuckDBPyConnection, fragments: list[Fragment], copies: Path) -> None:
    """Makes the table `delivered`: the rows of fragments with their day and order of delivery."""
    ranked = sorted(fragments, key=lambda fragment: fragment.delivery)
    paths = fetched([fragment.path for fragment in ranked], copies)
    deliveries = {
        "filename": [str(path) for path in paths],
        "day": pa.array([fragment.day for fragment in ranked], pa.date32()),
        "delivery": range(len(ranked)),
    }
    connection.register("deliveries", pa.table(deliveries))
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE delivered AS SELECT * EXCLUDE (filename) "
        f"FROM {parquet('?', 'filename = true', 'file_row_number = true')} "
        "JOIN deliveries USING (filename)",
        [deliveries["filename"]],
    )


def _distinct_events(dataset: Dataset) -> str:
    """The SELECT of events without duplicates, in the order in which they are written."""
    columns = names(["day", *(column for column in STAGED.names if column != "sequence")])
    declared = ["source_sequence"] if dataset.events.sequence else []
    if dataset.events.event_id:
        source = "delivered"
    else:
        content = ", ".join(
            f"{literal(field)}: {'epoch_us(timestamp)' if field == 'timestamp' else name(field)}"
            for field in [*EVENT_FIELDS, *declared]
            if field != "event_id"
        )
        source = (
            "(SELECT * REPLACE (content || '-' || row_number() OVER "
            "(PARTITION BY day, content, source_file ORDER BY file_row_number) AS event_id) "
            f"FROM (SELECT *, left(sha256(to_json({{{content}}})::VARCHAR), 32) AS content "
            "FROM delivered))"
        )
    return (
        f"SELECT {columns} FROM {source} QUALIFY event_id IS NULL OR row_number() OVER "
        "(PARTITION BY day, event_id ORDER BY delivery, file_row_number) = 1 "
        f"ORDER BY {names(['day', 'user_id', 'timestamp', *declared, 'delivery'])}, file_row_number"
    )


def _numbered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Adds `sequence` to rows that are ordered by user and time."""
    before: tuple[str | None, int] | None = None  # user and time of the row before the batch
    reached = -1  # and its sequence
    for batch in batches:
        if not len(batch):
            continue
        users, time = batch["user_id"], batch["timestamp"].cast("int64").to_numpy()
        goes_on = np.append(before == (users[0].as_py(), time[0]), time[1:] == time[:-1])
        ties = np.flatnonzero(goes_on[1:]) + 1
        same_user = pc.equal(users.take(ties), users.take(ties - 1)).fill_null(False)
        goes_on[ties] = same_user.to_numpy(zero_copy_only=False)
        place = np.arange(len(batch))
        first = np.maximum.accumulate(np.where(goes_on, -1 - reached, place))
        sequence = pa.array(place - first, pa.int32())
        before, reached = (users[-1].as_py(), time[-1]), sequence[-1].as_py()
        yield batch.append_column("sequence", sequence)
