"""One way to open DuckDB, so that every query has the same limits and the same clock."""

import os
import tempfile

import duckdb

from contracts.lake import is_remote, lakes


def connect() -> duckdb.DuckDBPyConnection:
    """Opens an in-memory DuckDB in UTC, bounded by FOOTPATH_MEMORY (default 4GB).

    Work above the bound spills to the temporary folder. Extensions are never downloaded: where the
    lake is on S3, it is read through s3fs.
    """
    connection = duckdb.connect(
        config={
            "memory_limit": os.environ.get("FOOTPATH_MEMORY", "4GB"),
            "temp_directory": os.path.join(tempfile.gettempdir(), f"footpath-duckdb-{os.getpid()}"),
            "autoinstall_known_extensions": "false",
        }
    )
    connection.execute("SET TimeZone = 'UTC'")
    where = lakes()
    if is_remote(where):
        connection.register_filesystem(where.fs)  # pyright: ignore[reportAttributeAccessIssue]
    return connection
