"""Looks for a text in every file below a folder, whatever the file's format hides of it."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def traces(folder: Path, text: str) -> list[str]:
    """Files below a folder that hold a text, by their path there, in order.

    Parquet is decoded, gzip is unpacked; everything else is searched as it lies.
    """
    wanted = text.encode()
    return [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (text in path.name or wanted in _bytes(path))
    ]


def _bytes(path: Path) -> bytes:
    if path.suffix == ".parquet":
        file = pq.ParquetFile(path)
        strings = b"\n".join(_strings(column) for column in file.read().columns)
        footer = {k: v for k, v in (file.metadata.metadata or {}).items() if k != b"ARROW:schema"}
        return strings + b"\n".join(v for pair in footer.items() for v in pair) + path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    return path.read_bytes()


def _strings(column: pa.ChunkedArray) -> bytes:
    """All texts of a column, nested ones too."""
    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        return b""
    return json.dumps(column.to_pylist(), default=str, ensure_ascii=False).encode()
