"""What every daily table shares: reading days of the lake in one query, writing one file a day.

In:  published daily objects. Out: an Ibis table that knows the day of each row, and, from one
query over many days, one staged Parquet file a day. A range costs one pass, not one query a day.
"""

import contextlib
import datetime as dt
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.base.batches import runs, shaped
from contracts.base.clock import day_window
from contracts.lake.layout import Lake
from contracts.lake.paths import ibis_path
from contracts.lake.reading import read_metadata
from features import spark
from features.provenance import Inputs, footer

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from ibis.backends.duckdb import Backend
    from ibis.expr.datatypes import DataType

# Rows that travel from DuckDB to Arrow at a time: bounds memory, and is a row group's size.
BATCH_ROWS = 100_000


@contextlib.contextmanager
def open_engine(name: str = "duckdb") -> "Iterator[Backend]":
    """Opens Ibis on a DuckDB connection with the usual limits (`.con`), and closes it after.

    The engine `spark` is Ibis on Spark instead, for which the functions below do the same.
    """
    import ibis

    from contracts.lake.engine import connect

    if name == "spark":
        yield spark.open_spark()
        return
    with connect() as connection:
        yield ibis.duckdb.from_connection(connection)


def read_days(
    engine: "Backend", lake: Lake, table: str, schema: pa.Schema, days: list[dt.date]
) -> "ir.Table":
    """The published rows of those days with their partition as column `day`.

    Days that are not published count as empty.
    """
    paths = lake.existing(table, days)
    if not paths:
        nothing = schema.empty_table().append_column("day", pa.array([], pa.date32()))
        return register(engine, f"no_{table}", nothing)
    if is_spark(engine):
        return spark.read_files(engine, paths)
    return _with_day(_read_parquet(engine, paths, filename=True))


def read_by_name(engine: "Backend", paths: Sequence[str], schema: pa.Schema) -> "ir.Table":
    """The rows of daily objects of different columns, as `read_days` gives those of the same.

    A column is null where an object lacks it, be it of the schema or another object's.
    """
    import ibis

    if is_spark(engine):
        rows = spark.read_files(engine, paths, by_name=True)
    else:
        rows = _with_day(_read_parquet(engine, paths, filename=True, union_by_name=True))
    return with_columns(rows, ibis.Schema.from_pyarrow(schema))


def _with_day(rows: "ir.Table") -> "ir.Table":
    day = rows.filename.right(len("2026-01-01.parquet")).left(len("2026-01-01")).cast("date")
    return rows.mutate(day=day).drop("filename")


def with_columns(rows: "ir.Table", schema: "Mapping[str, DataType]") -> "ir.Table":
    """Adds the columns that rows lack of a schema, as nulls."""
    import ibis

    missing = {name: ibis.null(kind) for name, kind in schema.items() if name not in rows.columns}
    return rows.mutate(**missing) if missing else rows


def read_object(engine: "Backend", path: Path) -> "ir.Table":
    """The rows of one published object."""
    if is_spark(engine):
        return spark.read_object(engine, str(path))
    return _read_parquet(engine, [path])


def _read_parquet(engine: "Backend", paths: Sequence[Path | str], **options: bool) -> "ir.Table":
    """What files hold, whatever their folders are called (contracts/base/sql.py:parquet)."""
    found = [ibis_path(path) for path in paths]
    return engine.read_parquet(found, hive_partitioning=False, **options)


def is_spark(engine: "Backend") -> bool:
    """Whether an engine is Spark, and not DuckDB."""
    return engine.name == "pyspark"


def register(engine: "Backend", name: str, table: pa.Table) -> "ir.Table":
    """Registers an Arrow table; Ibis 12 cannot create tables of them on DuckDB 2."""
    if is_spark(engine):
        return spark.register(engine, name, table)
    engine.con.register(name, table)
    return engine.table(name)


def calendar(days: list[dt.date], timezone: str) -> pa.Table:
    """One row a day: day, and its UTC instants starts (inclusive) and ends (exclusive)."""
    windows = [day_window(day, timezone) for day in days]
    instant = pa.timestamp("us", tz="UTC")
    return pa.table(
        {
            "day": pa.array(days, pa.date32()),
            "starts": pa.array([starts for starts, _ in windows], instant),
            "ends": pa.array([ends for _, ends in windows], instant),
        }
    )


def row_count(lake: Lake, table: str, day: dt.date) -> int:
    """The rows of a published day from the object's footer; 0 if it is not published."""
    path = lake.day(table, day)
    return read_metadata(path).num_rows if path.exists() else 0


def keep(engine: "Backend", name: str, rows: "ir.Table") -> "ir.Table":
    """Computes an expression once, for several queries; large results spill to disk.

    The table has the types that Ibis knows of; DuckDB's own sum of integers, say, is wider.
    """
    if is_spark(engine):
        return spark.keep(engine, name, rows)
    engine.con.execute(f'DROP TABLE IF EXISTS temp."{name}"')
    return engine.create_table(name, rows, temp=True)


def stream(engine: "Backend", rows: "ir.Table", order: Sequence[str] = ()) -> pa.RecordBatchReader:
    """Runs an expression and yields its rows batch by batch, in the order of some columns.

    Ibis' own `to_pyarrow_batches` calls a method that DuckDB 2 has dropped.
    """
    import ibis

    if is_spark(engine):
        return spark.stream(engine, rows, order, BATCH_ROWS)
    rows = rows.order_by(*order) if order else rows
    return engine.con.sql(ibis.to_sql(rows, dialect="duckdb")).to_arrow_reader(BATCH_ROWS)


def write_days(
    rows: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    folder: Path,
    days: list[dt.date],
    inputs: Mapping[dt.date, Inputs],
) -> dict[dt.date, Path]:
    """Writes one Parquet file a day from rows that are ordered by their column `day`.

    Args:
      rows: batches with a date column `day` (in `days`, ascending) beside the schema's columns.
      schema: columns of the files, in order.
      folder: where the files go.
      days: each gets a file, an empty one if it has no row.
      inputs: what each day was built from, for its footer (features/provenance.py).
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {day: folder / f"{day.isoformat()}.parquet" for day in days}
    written = set()
    for (day,), parts in itertools.groupby(runs(rows), key=lambda part: part[0]):
        if day in written:
            raise AssertionError(f"the rows of {day} are not in one run: order them by day")
        with pq.ParquetWriter(paths[day], schema, compression="zstd") as writer:
            for _, part in parts:
                writer.write_table(shaped(part, schema))
            writer.add_key_value_metadata(footer(inputs[day]))
        written.add(day)
    for day in paths.keys() - written:
        with pq.ParquetWriter(paths[day], schema, compression="zstd") as writer:
            writer.write_table(schema.empty_table())
            writer.add_key_value_metadata(footer(inputs[day]))
    return paths
