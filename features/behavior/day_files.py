"""One open Parquet file a day, filled by one range of users after the other.

In:  for each range of users, in ascending order, rows ordered by day. Out: one file a day, whose
rows are ordered as they came. Nothing is sorted or held as a whole.
"""

import contextlib
import datetime as dt
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.base.batches import runs
from features.provenance import Inputs, footer


class DayFiles:
    """The staged files of some days; complete when the context ends without error."""

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
