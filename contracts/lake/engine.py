"""One way to open DuckDB, so that every query has the same limits and the same clock."""

import os
import re

import duckdb

from contracts.base.errors import FootpathError
from contracts.lake.layout import lakes, spill_folder
from contracts.lake.paths import is_remote

ENGINES = ("duckdb", "spark")


def engine_name() -> str:
    """What computes sessions and features: FOOTPATH_ENGINE, duckdb if it is not set.

    It is a matter of where Footpath is deployed, not of the data set.

    Raises:
      FootpathError: there is no such engine.
    """
    name = os.environ.get("FOOTPATH_ENGINE") or ENGINES[0]
    if name not in ENGINES:
        raise FootpathError(f"FOOTPATH_ENGINE is '{name}': it must be one of {', '.join(ENGINES)}")
    return name


def memory_limit() -> str:
    """How much memory queries may take: FOOTPATH_MEMORY, 4GB if it is not set.

    Raises:
      FootpathError: it is no size.
    """
    size = os.environ.get("FOOTPATH_MEMORY") or "4GB"
    if not re.fullmatch(r"(?!0+[A-Z])[0-9]{1,6}(MB|GB|TB)", size):
        raise FootpathError(
            f"FOOTPATH_MEMORY is '{size}': it takes a size such as 4GB (MB, GB or TB)"
        )
    return size


def memory_bytes() -> int:
    """That limit in bytes; as DuckDB has it, a GB is 10^9.

    Raises:
      FootpathError: it is no size.
    """
    size = memory_limit()
    return int(size[:-2]) * {"MB": 10**6, "GB": 10**9, "TB": 10**12}[size[-2:]]


def connect() -> duckdb.DuckDBPyConnection:
    """Opens an in-memory DuckDB in UTC, bounded by FOOTPATH_MEMORY (default 4GB).

    Work above the bound spills to a folder of the home that no other user sees. Extensions are
    never downloaded: where the lake is on S3, it is read through s3fs.

    Raises:
      FootpathError: FOOTPATH_MEMORY is no size.
    """
    connection = duckdb.connect(
        config={
            "memory_limit": memory_limit(),
            "temp_directory": str(spill_folder() / "duckdb"),
            "autoinstall_known_extensions": "false",
        }
    )
    connection.execute("SET GLOBAL TimeZone = 'UTC'")  # of its cursors as well
    where = lakes()
    if is_remote(where):
        connection.register_filesystem(where.fs)  # pyright: ignore[reportAttributeAccessIssue]
    return connection
