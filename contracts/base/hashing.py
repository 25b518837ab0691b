"""The one content hash: of values, bytes, files and tables, 16 hex digits of SHA-256 everywhere.

It names things and detects changes; 64 bits keep chance collisions away and names short. Two kinds
of hash are not made here, because they have to be fast or to be computed inside a query: digests of
landed rows (features/provenance.py) and hashes in SQL, such as a user's split.
"""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.base.errors import FootpathError

HEX_DIGITS = 16
_BLOCK = 1 << 20


class Hasher:
    """A hash of bytes that come in blocks, however they are cut into blocks."""

    def __init__(self) -> None:
        self._state = hashlib.sha256()

    def update(self, block: bytes | memoryview | pa.Buffer) -> None:
        """Appends a block."""
        self._state.update(block)

    def hexdigest(self) -> str:
        """The hash of all blocks so far."""
        return self._state.hexdigest()[:HEX_DIGITS]


def hash_bytes(data: bytes | memoryview | pa.Buffer) -> str:
    """Content hash of bytes."""
    hasher = Hasher()
    hasher.update(data)
    return hasher.hexdigest()


def hash_json(value: object) -> str:
    """Content hash of a plain value, the same in whatever order its fields come.

    Raises:
      TypeError: JSON does not hold the value: a path or an instant would be hashed as it prints.
      ValueError: it holds a number that JSON does not have, such as NaN.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hash_bytes(text.encode())


def hash_file(path: Path) -> str:
    """Content hash of a file."""
    hasher = Hasher()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            hasher.update(block)
    return hasher.hexdigest()


def hash_files(root: Path, paths: Iterable[Path]) -> str:
    """Content hash of files below a folder, with their names there, in whatever order they come."""
    return hash_json({path.relative_to(root).as_posix(): hash_file(path) for path in paths})


def hash_rows(path: Path, task: str = "") -> str:
    """Content hash of a Parquet table's rows, in their order; of labels, of one task's rows alone.

    Where the file lies, when it was written and what its footer says are no part of it.

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
    return hash_bytes(sink.getvalue())
