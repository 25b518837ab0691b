"""Ranges of users or items, so that a query fits into memory, however long the log is.

In:  the published state. Out: ranges of ids, ascending: what is made of one after the other is
sorted by id as a whole (`DayFiles`). Tables that are sorted by it let a range skip most of a large
object.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

import contextlib
import datetime as dt
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.base.batches import runs
from contracts.lake.engine import engine_name
from contracts.lake.layout import Lake
from contracts.lake.reading import read_metadata
from features.behavior.tables import FeatureTable
from features.daily import open_engine, read_days, stream
from features.provenance import Inputs, footer

if TYPE_CHECKING:
    import ibis.expr.types as ir

# What one query may make (a row a user and day of the result), and may see.
CHUNK_ROWS = 1_000_000
CHUNK_EVENTS = 3_000_000

# From the first user or item, inclusive, to the last, exclusive; none: no bound.
Ids = tuple[str | None, str | None]


def in_range(rows: "ir.Table", ids: Ids, key: str = "entity_id") -> "ir.Table":
    """The rows of a range of users or items."""
    since, until = ids
    if since is not None:
        rows = rows.filter(rows[key] >= since)
    if until is not None:
        rows = rows.filter(rows[key] < until)
    return rows


def id_ranges(table: FeatureTable, lake: Lake, needed: list[dt.date], days: int) -> list[Ids]:
    """Cuts the users, or items, of some days into ranges of about as many each.

    Args:
      table: of features.
      lake: with the state of the needed days.
      needed: all days that windows see.
      days: how many days of features are built.
    """
    import ibis

    if engine_name() == "spark":
        return [(None, None)]  # it bounds its own memory
    seen = _rows(lake, table.state, needed)
    events = _rows(lake, "events", needed) if "events" in table.sources else 0
    if seen * days <= CHUNK_ROWS and events <= CHUNK_EVENTS:
        return [(None, None)]
    with open_engine() as engine:
        schema = pa.schema([pa.field(table.key, pa.string())])
        ids = read_days(engine, lake, table.state, schema, needed).select(table.key).distinct()
        [many] = stream(engine, ids.agg(many=ids.count())).read_all()["many"].to_pylist()
        ranges = max(-(-many * days // CHUNK_ROWS), -(-events // CHUNK_EVENTS), 1)
        size = -(-many // ranges)
        ranked = ids.mutate(place=ibis.row_number().over(order_by=ids[table.key]))
        starts = ranked.filter(ranked.place > 0, ranked.place % size == 0)
        found = stream(engine, starts.order_by(table.key)).read_all()[table.key].to_pylist()
    return list(itertools.pairwise([None, *found, None]))


def _rows(lake: Lake, table: str, days: list[dt.date]) -> int:
    published = set(lake.days(table))
    return sum(read_metadata(lake.day(table, day)).num_rows for day in days if day in published)


class DayFiles:
    """One open Parquet file a day, filled by one range of ids after the other.

    Nothing is sorted or held as a whole. The files are complete when the context ends without
    error.
    """

    def __init__(
        self,
        folder: Path,
        days: list[dt.date],
        schema: pa.Schema,
        inputs: Mapping[dt.date, Inputs],
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.paths = {day: folder / f"{day.isoformat()}.parquet" for day in days}
        self._schema, self._inputs = schema, inputs
        self._writers: dict[dt.date, pq.ParquetWriter] = {}
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Opens the files."""
        for day, path in self.paths.items():
            writer = pq.ParquetWriter(path, self._schema, compression="zstd")
            self._writers[day] = self._open.enter_context(writer)
        return self

    def write(self, rows: Iterable[pa.RecordBatch]) -> None:
        """Appends rows that are ordered by their column `day` to the files of their days."""
        for (day,), part in runs(rows):
            self._writers[day].write_table(part.select(self._schema.names).cast(self._schema))

    def __exit__(self, *error: object) -> None:
        """Closes the files, each with what it was built from in its footer."""
        for day, writer in self._writers.items():
            writer.add_key_value_metadata(footer(self._inputs[day]))
        self._open.close()
