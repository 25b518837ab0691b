"""Rows of landing files -> staged Parquet files: one for each file and event day, one of refusals.

In:  `rows_read` chunk by chunk (reader.py) and the YAML's expressions (mapping.py).
Out: staged fragments and quarantine of each file, in a folder that no reader looks into.

Days are found by an as-of join with their UTC starts (contracts/base/clock.py), so that a day has
23 or 25 hours where the clocks change. The rows of a pass lie in a DuckDB table and leave it in
order, one file being written at a time: memory does not grow with the pass. Of a pass that is
larger than memory, the rows so far are set aside as Parquet, in order, so that what lies on disk is
compressed and none of it is sorted twice: without that, DuckDB spills each row several times over.

A dated source's file holds no event later than the day after its arrival; an undated one without a
last day none later than tomorrow. What lies later is a broken clock and goes to quarantine.

Rows of users who were forgotten (contracts/lake/forgotten.py) are counted and written nowhere. The
digest of a fragment is of what was delivered, theirs included, so that forgetting makes no day
stale, and a day of which nothing is left keeps a fragment without rows.
"""

import datetime as dt
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.base.batches import runs, shaped
from contracts.base.clock import day_window, days_between, now
from contracts.base.sql import literals, names, parquet
from contracts.config.dataset import Dataset
from contracts.lake.engine import memory_bytes
from contracts.lake.forgotten import NOBODY, Forgotten
from contracts.lake.layout import spill_folder
from contracts.lake.schemas import EVENT_FIELDS, FRAGMENT, QUARANTINE, TIMESTAMP
from features.expressions import struct_of
from features.ingestion.listing import Arrival
from features.ingestion.mapping import (
    OUT_OF_RANGE,
    REFUSALS,
    TOO_LATE,
    UNDATED,
    events_select,
)
from features.ingestion.reader import ROWS
from features.provenance import Digest, Digester

# Rows that travel from DuckDB to Parquet at a time, and at most make a row group.
BATCH_ROWS = 200_000

# Of what queries may take, the rows of a pass that are not set aside take less than one part.
SHARE = 4


@dataclass
class FileCounts:
    """Where the rows of one landing file go."""

    days: dict[dt.date, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REFUSALS, 0))
    added: int = 0  # rows that `explode` should have made beyond those of the file
    forgotten: int = 0  # of users who were forgotten, refused or not


@dataclass
class StagedFile:
    """The staged fragments and refused rows of one landing file."""

    fragments: dict[dt.date, Path] = field(default_factory=dict)
    digests: dict[dt.date, Digest] = field(default_factory=dict)
    quarantine: Path | None = None
    rows: int = 0  # in all of them


class Partitioner:
    """Takes the rows of one pass over landing files, and writes them by file and event day.

    Args:
      connection: DuckDB; gets the tables `landed`, `pass_files` and `day_starts`.
      dataset: defines what an event is, and which days there are.
      arrivals: the files of the pass; a file's number is its place here.
      forgotten: users whose rows are dropped.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        dataset: Dataset,
        arrivals: list[Arrival],
        forgotten: Forgotten = NOBODY,
    ) -> None:
        self.connection, self._forgotten = connection, forgotten
        self._aside: list[Path] = []  # rows that were set aside, in order
        self._folder: tempfile.TemporaryDirectory | None = None  # where
        self._files = len(arrivals)
        last_days = [_last_day(dataset, arrival) for arrival in arrivals]
        ends = [day_window(day, dataset.timezone)[1] for day in last_days]
        files = {
            "file": pa.array(range(len(arrivals)), pa.int32()),
            "source_file": [arrival.file.path for arrival in arrivals],
            "ends": pa.array(ends, TIMESTAMP),
            "opens": pa.array([_opens(dataset, arrival) for arrival in arrivals], TIMESTAMP),
            "arrived": pa.array([arrival.day for arrival in arrivals], pa.date32()),
        }
        connection.register("pass_files", pa.table(files))
        connection.register("day_starts", _day_starts(dataset, max(last_days)))
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE landed (file INTEGER, source_file VARCHAR, "
            "source_line BIGINT, source_element INTEGER, elements BIGINT, source_sequence BIGINT, "
            "day DATE, broken VARCHAR, detail VARCHAR, raw VARCHAR, event_id VARCHAR, "
            "user_id VARCHAR, "
            "timestamp TIMESTAMPTZ, action VARCHAR, item_id VARCHAR, value DOUBLE, "
            "session_id VARCHAR, properties MAP(VARCHAR, VARCHAR), is_forgotten BOOLEAN)"
        )
        self._is_exploded = dataset.events.explode is not None
        self._insert = f"INSERT INTO landed {_landed_select(dataset)}"
        self._raws = _raws_update(dataset)

    def add_rows(self) -> None:
        """Takes the rows that are in `rows_read` now."""
        self.connection.execute(self._insert)
        if self._is_exploded:
            self.connection.execute(self._raws)

    def set_aside(self) -> None:
        """Moves the rows so far to a file on disk where they take much of the memory.

        The table `landed` no longer has them.
        """
        ((taken,),) = self.connection.sql(
            "SELECT coalesce(sum(memory_usage_bytes + temporary_storage_bytes), 0) "
            "FROM duckdb_memory() WHERE tag = 'IN_MEMORY_TABLE'"
        ).fetchall()
        if taken > memory_bytes() / SHARE:
            self._set_aside()

    def _set_aside(self) -> None:
        if self._forgotten:
            self._find_forgotten()
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(dir=spill_folder())
        self._aside.append(Path(self._folder.name) / f"{len(self._aside)}.parquet")
        element = ", source_element" if self._is_exploded else ""
        self.connection.execute(
            f"COPY (FROM landed ORDER BY broken IS NULL, file, day, source_line{element}) "
            f"TO {literals([str(self._aside[-1])])} (FORMAT parquet, COMPRESSION zstd)"
        )
        self.connection.execute("CREATE OR REPLACE TEMP TABLE landed AS FROM landed LIMIT 0")

    @property
    def _rows(self) -> str:
        """The SQL of all rows, those that were set aside first."""
        if not self._aside:
            return "landed"
        aside = parquet(f"[{literals(map(str, self._aside))}]")
        return f"(FROM {aside} UNION ALL FROM landed)"

    def counts(self) -> dict[int, FileCounts]:
        """Counts the rows of each file, by event day and by reason of refusal."""
        if self._forgotten:
            self._find_forgotten()
        counts = {file: FileCounts() for file in range(self._files)}
        for file, day, broken, is_forgotten, rows, added in self.connection.execute(
            "SELECT file, CASE WHEN broken IS NULL THEN day END AS day, broken, is_forgotten, "
            f"count(*), coalesce(sum(elements), 0) - count(elements) FROM {self._rows} "
            "GROUP BY ALL ORDER BY ALL"
        ).fetchall():
            of_file = counts[file]
            of_file.added += int(added)
            of_file.forgotten += rows if is_forgotten else 0
            kept = 0 if is_forgotten else rows
            if broken:
                of_file.refused[broken] += kept
            else:
                of_file.days[day] = of_file.days.get(day, 0) + kept
        return counts

    def _find_forgotten(self) -> None:
        """Marks the rows of users who were forgotten; of a row without an id, by its text."""
        users = self.connection.sql("SELECT DISTINCT user_id FROM landed").fetchall()
        self.connection.execute(
            "UPDATE landed SET is_forgotten = true WHERE list_contains(?, user_id)",
            [self._forgotten.among(user for (user,) in users)],
        )
        texts = self.connection.sql(
            "SELECT DISTINCT raw FROM landed WHERE user_id IS NULL AND broken NOT NULL"
        ).fetchall()
        self.connection.execute(
            "UPDATE landed SET is_forgotten = true "
            "WHERE user_id IS NULL AND broken NOT NULL AND list_contains(?, raw)",
            [[raw for (raw,) in texts if self._forgotten.is_named_in(raw)]],
        )

    def example(self, file: int) -> str:
        """Describes a refused row of a file, one that could be read if there is any."""
        line, detail, raw = self.connection.execute(
            f"SELECT source_line, detail, left(raw, 80) FROM {self._rows} WHERE file = ? "
            "AND NOT is_forgotten ORDER BY broken = ? DESC, source_line LIMIT 1",
            [file, UNDATED],
        ).fetchall()[0]
        return f"line {line}: {detail}: {raw}"

    def write(self, files: list[int], folder: Path) -> dict[int, StagedFile]:
        """Writes what became of some files to a staging folder."""
        staged = {file: StagedFile() for file in files}
        if self._aside:
            self._set_aside()  # the last ones, too: all are in order
        good = f"* FROM {self._rows} WHERE broken IS NULL"
        for (file, day), path, rows, digest in self._write(good, files, ["file", "day"], folder):
            staged[file].fragments[day] = path
            staged[file].digests[day] = digest
            staged[file].rows += rows
        bad = (
            f"* REPLACE ([broken] AS broken), 'landing' AS stage FROM {self._rows} "
            "WHERE broken NOT NULL AND NOT is_forgotten"
        )
        for (file,), path, rows, _ in self._write(bad, files, ["file"], folder):
            staged[file].quarantine = path
            staged[file].rows += rows
        if self._folder:
            self._folder.cleanup()
        return staged

    def _write(
        self, select: str, files: list[int], keys: list[str], folder: Path
    ) -> Iterator[tuple[tuple, Path, int, Digest]]:
        """Writes rows, ordered by keys, to one Parquet file a run of equal keys; digests them."""
        schema = FRAGMENT if "day" in keys else QUARANTINE
        parts_of_keys = itertools.groupby(
            runs(self._batches(select, files, keys), keys), key=lambda part: part[0]
        )
        for key, parts in parts_of_keys:
            path = folder / f"{'-'.join(map(str, key))}.parquet"
            rows, digester = 0, Digester()
            with pq.ParquetWriter(path, schema, compression="zstd") as writer:
                for _, part in parts:
                    kept = shaped(part, schema)
                    if schema is FRAGMENT:
                        digester.add(kept)
                    if self._forgotten:
                        kept = kept.filter(pc.invert(part["is_forgotten"]))
                    writer.write_table(kept)
                    rows += len(kept)
            yield key, path, rows, digester.digest()

    def _batches(self, select: str, files: list[int], keys: list[str]) -> Iterator[pa.RecordBatch]:
        """Rows ordered by keys, and as they stand in their file.

        Those that were set aside are read key by key: each lies in order there, and in the next
        file what was read later.
        """
        listed = f"SELECT {select} AND list_contains(?, file)"
        if not self._aside:
            element = ["source_element"] if self._is_exploded else []
            order = ", ".join([*keys, "source_line", *element])
            found = self.connection.sql(f"{listed} ORDER BY {order}", params=[files])
            yield from found.to_arrow_reader(BATCH_ROWS)
            return
        distinct = f"SELECT DISTINCT {', '.join(keys)} FROM ({listed}) ORDER BY ALL"
        of_key = " AND ".join(f"{key} = ?" for key in keys)
        for values in self.connection.execute(distinct, [files]).fetchall():
            found = self.connection.sql(f"SELECT {select} AND {of_key}", params=[*values])
            yield from found.to_arrow_reader(BATCH_ROWS)


def _last_day(dataset: Dataset, arrival: Arrival) -> dt.date:
    """The last event day that a file may have (see the top)."""
    if arrival.day is None and dataset.partitions.end:
        return dataset.partitions.end
    if arrival.day is None:
        return now().date() + dt.timedelta(days=1)
    return arrival.day + dt.timedelta(days=dataset.landing.ahead_days)


def _opens(dataset: Dataset, arrival: Arrival) -> dt.datetime | None:
    """The instant before which rows of a file are too late; None if none is."""
    allowed = dataset.lateness.allowed_days
    if allowed is None or arrival.day is None:
        return None
    return day_window(arrival.day - dt.timedelta(days=allowed), dataset.timezone)[0]


def _day_starts(dataset: Dataset, last: dt.date) -> pa.Table:
    """Returns (day, starts) of every day of the data set, and one row more: no day, its end."""
    start, zone = dataset.partitions.start, dataset.timezone
    days = days_between(start, min(last, dataset.partitions.end or last))
    starts = [day_window(day, zone)[0] for day in days]
    end = day_window(days[-1], zone)[1] if days else day_window(start, zone)[0]
    return pa.table(
        {
            "day": pa.array([*days, None], pa.date32()),
            "starts": pa.array([*starts, end], TIMESTAMP),
        }
    )


def _landed_select(dataset: Dataset) -> str:
    """The SELECT that dates the rows of a chunk, and refuses those without a day."""
    first, last = dataset.partitions.start, dataset.partitions.end
    days = f"{first} to {last}" if last else f"{first} on, and not later than the file"
    fields = names(EVENT_FIELDS)
    late = (
        f"timestamp || ' is more than {dataset.lateness.allowed_days} days before its file arrived "
        "on ' || arrived"
    )
    return (
        "SELECT file, source_file, __line, __place, __length, source_sequence, day, broken, "
        "CASE WHEN broken IS NOT NULL THEN "
        f"coalesce(__detail, CASE WHEN broken = '{TOO_LATE}' THEN {late} "
        f"ELSE timestamp || ' is not in the data set''s days, {days}' END) END, "
        f"CASE WHEN broken IS NOT NULL THEN __raw END, {fields}, false "
        "FROM (SELECT *, coalesce(__broken, CASE WHEN day IS NULL OR timestamp >= ends "
        f"THEN '{OUT_OF_RANGE}' WHEN timestamp < opens THEN '{TOO_LATE}' END) AS broken "
        f"FROM ({events_select(dataset)}) "
        "JOIN pass_files ON file = __file ASOF LEFT JOIN day_starts ON timestamp >= starts)"
    )


def _raws_update(dataset: Dataset) -> str:
    """The UPDATE that gives the first element of a row that is refused for a reason its text.

    A row may have many elements, and each copy of a long one would take room.
    """
    row = struct_of(dataset.landing.columns)
    return (
        "UPDATE landed SET raw = source_text FROM "  # a column of a source may have any name
        f"(SELECT __file, __line, coalesce(__raw, to_json({row})::VARCHAR) AS source_text "
        f"FROM {ROWS}), "
        "(SELECT file AS of_file, source_line AS of_line, min(source_element) AS element "
        "FROM landed WHERE broken IS NOT NULL AND raw IS NULL "
        "GROUP BY file, source_line, broken) "
        "WHERE __file = of_file AND __line = of_line AND file = of_file AND source_line = of_line "
        "AND source_element IS NOT DISTINCT FROM element"
    )
