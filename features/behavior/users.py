"""Ranges of users, so that a query sees no more than fits into memory, however long the log is.

In:  the published state. Out: ranges of user ids, ascending: what is made of one after the other is
sorted by user as a whole (`DayFiles`). Tables that are sorted by user let a range skip most of a
large object.
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
from features.behavior.daily_state import STATE
from features.daily import open_engine, read_days, stream
from features.provenance import Inputs, footer

if TYPE_CHECKING:
    import ibis.expr.types as ir

# What one query may make (a row a user and day of the result), and may see.
CHUNK_ROWS = 1_000_000
CHUNK_EVENTS = 3_000_000

# From the first user, inclusive, to the last, exclusive; none: no bound.
Users = tuple[str | None, str | None]

USER = pa.schema([pa.field("user_id", pa.string())])


def of_users(rows: "ir.Table", users: Users) -> "ir.Table":
    """The rows of a range of users."""
    since, until = users
    if since is not None:
        rows = rows.filter(rows.user_id >= since)
    if until is not None:
        rows = rows.filter(rows.user_id < until)
    return rows


def user_ranges(lake: Lake, needed: list[dt.date], days: int) -> list[Users]:
    """Cuts the users of some days into ranges of about as many each.

    Args:
      lake: with the state of the needed days.
      needed: all days that windows see.
      days: how many days of features are built.
    """
    import ibis

    if engine_name() == "spark":
        return [(None, None)]  # it bounds its own memory
    seen = _rows(lake, STATE, needed)
    events = _rows(lake, "events", needed)
    if seen * days <= CHUNK_ROWS and events <= CHUNK_EVENTS:
        return [(None, None)]
    with open_engine() as engine:
        users = read_days(engine, lake, STATE, USER, needed).select("user_id").distinct()
        [many] = stream(engine, users.agg(many=users.count())).read_all()["many"].to_pylist()
        ranges = max(-(-many * days // CHUNK_ROWS), -(-events // CHUNK_EVENTS), 1)
        size = -(-many // ranges)
        ranked = users.mutate(place=ibis.row_number().over(order_by=users.user_id))
        starts = ranked.filter(ranked.place > 0, ranked.place % size == 0)
        found = stream(engine, starts.order_by("user_id")).read_all()["user_id"].to_pylist()
    return list(itertools.pairwise([None, *found, None]))


def _rows(lake: Lake, table: str, days: list[dt.date]) -> int:
    published = set(lake.days(table))
    return sum(read_metadata(lake.day(table, day)).num_rows for day in days if day in published)


class DayFiles:
    """One open Parquet file a day, filled by one range of users after the other.

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
