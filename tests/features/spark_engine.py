"""What tests need to run the same work on DuckDB and on Spark, and to compare what comes out."""

import datetime as dt
import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

HAS_SPARK = importlib.util.find_spec("pyspark") is not None and shutil.which("java") is not None
needs_spark = pytest.mark.skipif(
    not HAS_SPARK, reason="PySpark and Java are not both here: see `make test-spark`"
)

Staged = dict[dt.date, Path]


@pytest.fixture
def on_spark(
    lake_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Callable[[], Staged]], Staged]:
    """Runs a function with Spark as the engine, on two cores."""
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--master local[2] pyspark-shell")

    def run(build: Callable[[], Staged]) -> Staged:
        with monkeypatch.context() as patched:
            patched.setenv("FOOTPATH_ENGINE", "spark")
            return build()

    return run


def rows_of(staged: Staged) -> pa.Table:
    """Returns the rows of all days, in order of day and as they lie in the files."""
    return pa.concat_tables([pq.read_table(staged[day]) for day in sorted(staged)])


def assert_same_rows(ours: pa.Table, theirs: pa.Table, *, but: tuple[str, ...] = ()) -> None:
    """Compares two tables in order: floats to 1e-9 of their value, all else exactly."""
    assert theirs.schema == ours.schema
    assert theirs.num_rows == ours.num_rows
    for name in ours.column_names:
        if name in but:
            continue
        mine, other = ours[name], theirs[name]
        if pa.types.is_floating(mine.type):
            np.testing.assert_allclose(
                other.to_numpy(), mine.to_numpy(), rtol=1e-9, atol=0, err_msg=name
            )
        else:
            assert other.equals(mine), name
