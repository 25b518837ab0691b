"""What a table says, as a short hash: for who must know whether it is the table of last time.

In:  a Parquet file on a local disk. Out: a hash of its rows, in their order. Where the file lies,
when it was written and what its footer says are no part of it.
"""

import hashlib
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.base.errors import FootpathError


def rows_fingerprint(path: Path, task: str = "") -> str:
    """Returns a hash of a table's rows; of labels, of one task's: others do not change it.

    Raises:
      FootpathError: the file cannot be read.
    """
    try:
        status = path.stat()
        return _hash_rows(path, task, status.st_mtime_ns, status.st_size)
    except (OSError, pa.ArrowInvalid) as error:
        raise FootpathError(f"{path} cannot be read as Parquet: {error}") from None


@cache
def _hash_rows(path: Path, task: str, *_: int) -> str:
    table = pq.read_table(path, filters=pc.field("task") == task if task else None)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema.remove_metadata()) as stream:
        stream.write_table(table.combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()[:16]
