"""Spark in the place of DuckDB: the few things that Ibis does not do alike on both.

For logs that one machine cannot hold. `pip install -r requirements-spark.txt`, then
FOOTPATH_ENGINE=spark. Where Spark runs and what it may use comes from Spark's own settings
(spark-defaults.conf, SPARK_CONF_DIR), by default this machine with FOOTPATH_MEMORY. Driver and
executors must see the lake and FOOTPATH_HOME under the same paths.
"""

import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.base.errors import FootpathError
from contracts.lake.engine import memory_limit
from contracts.lake.layout import home

if TYPE_CHECKING:
    import ibis.expr.types as ir

PARTITIONS = "spark.sql.shuffle.partitions"


def open_spark() -> Any:
    """Returns Ibis on the one Spark session of this process, which is started if it is not there.

    Raises:
      FootpathError: PySpark is not installed.
    """
    try:
        from pyspark.sql import SparkSession  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise FootpathError(
            "FOOTPATH_ENGINE is 'spark', and PySpark is not installed: "
            "pip install -r requirements-spark.txt, or leave FOOTPATH_ENGINE out"
        ) from None
    import ibis

    settings = {
        "spark.app.name": "footpath",
        "spark.driver.memory": memory_limit().removesuffix("B"),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.adaptive.coalescePartitions.parallelismFirst": "false",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    }
    builder = SparkSession.builder
    for key, value in settings.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    context = session.sparkContext
    if context.master.startswith("local") and not context.getConf().contains(PARTITIONS):
        session.conf.set(PARTITIONS, str(4 * context.defaultParallelism))  # not 200
    return ibis.pyspark.connect(session)


def read_files(engine: Any, paths: Sequence[str], by_name: bool = False) -> "ir.Table":
    """The rows of daily objects with the `day` of their file's name.

    Args:
      engine: Ibis on Spark.
      paths: of the objects, all of the same columns.
      by_name: they may have different ones, and all columns of any are read.
    """
    from pyspark.sql import functions  # pyright: ignore[reportMissingImports]

    files = engine._session.read.option("mergeSchema", by_name).parquet(*paths)
    day = functions.col("_metadata.file_name").substr(1, len("2026-01-01")).cast("date")
    return _view(engine, f"files_{uuid.uuid4().hex}", files.withColumn("day", day))


def read_object(engine: Any, path: str) -> "ir.Table":
    """The rows of one object."""
    return _view(engine, f"object_{uuid.uuid4().hex}", engine._session.read.parquet(path))


def register(engine: Any, name: str, table: pa.Table) -> "ir.Table":
    """Makes an Arrow table known."""
    return _view(engine, name, engine._session.createDataFrame(table))


def keep(engine: Any, name: str, rows: "ir.Table") -> "ir.Table":
    """Computes an expression once; what does not fit into memory lies on disk."""
    return _view(engine, name, _frame(engine, rows).localCheckpoint(eager=True))


def stream(engine: Any, rows: "ir.Table", order: Sequence[str], size: int) -> pa.RecordBatchReader:
    """Runs an expression and gives its rows batch by batch, in the order of some columns.

    They go through files, which the executors write below FOOTPATH_HOME: what Spark collects, it
    collects into the memory of this process.
    """
    (home() / "work").mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=home() / "work", prefix="spark-"))
    frame = _frame(engine, rows)
    if order:  # kept, for Spark looks at all rows once before it sorts them
        frame = frame.localCheckpoint(eager=False).orderBy(*order)
    batches = _written(frame, folder, size)
    return pa.RecordBatchReader.from_batches(next(batches), batches)


def _written(frame: Any, folder: Path, size: int) -> Iterator[Any]:
    """The schema, then the rows."""
    try:
        frame.write.parquet(str(folder / "rows"))
        parts = sorted((folder / "rows").glob("part-*.parquet"))
        yield pq.read_schema(parts[0])
        for part in parts:
            with pq.ParquetFile(part) as file:
                yield from file.iter_batches(size)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _frame(engine: Any, rows: "ir.Table") -> Any:
    return engine._session.sql(engine.compile(rows))


def _view(engine: Any, name: str, frame: Any) -> "ir.Table":
    frame.createOrReplaceTempView(name)
    return engine.table(name)
