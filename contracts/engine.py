"""One way to open DuckDB, so that every query has the same limits and the same clock."""

import os
import tempfile

import duckdb


def connect() -> duckdb.DuckDBPyConnection:
    """Opens an in-memory DuckDB in UTC, bounded by FOOTPATH_MEMORY (default 4GB).

    Work above the bound spills to the temporary folder. Extensions are never downloaded.
    """
    connection = duckdb.connect(
        config={
            "memory_limit": os.environ.get("FOOTPATH_MEMORY", "4GB"),
            "temp_directory": os.path.join(tempfile.gettempdir(), f"footpath-duckdb-{os.getpid()}"),
            "autoinstall_known_extensions": "false",
        }
    )
    connection.execute("SET TimeZone = 'UTC'")
    return connection
