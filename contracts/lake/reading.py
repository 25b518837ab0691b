"""Lists and reads objects of a lake, on a disk or on S3.

In:  paths of the lake. Out: their sizes and what changes when they do; Parquet, its schema and
footer; JSON and texts.
"""

import contextlib
import fnmatch
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.base.errors import FootpathError
from contracts.lake.paths import is_remote, key_of, system_of

READERS = 16


def stamps(folder: Path, pattern: str = "*.parquet") -> dict[str, str]:
    """The objects of a folder by name, each with what changes when it does."""
    if is_remote(folder):
        found = system_of(folder).glob(f"{key_of(folder)}/{pattern}", detail=True).items()
        return {
            key.rpartition("/")[2]: str(info["ETag"]).strip('"')
            for key, info in found
            if info["type"] == "file"
        }
    if not folder.exists():
        return {}
    status: dict[str, os.stat_result] = {}
    with os.scandir(folder) as entries:  # a tenth of the time of a glob: sensors ask every minute
        for entry in entries:
            if fnmatch.fnmatch(entry.name, pattern):
                with contextlib.suppress(FileNotFoundError):  # gone since, as a database's journal
                    status[entry.name] = entry.stat()
    return {name: f"{found.st_size}-{found.st_mtime_ns}" for name, found in status.items()}


def sizes(folder: Path, pattern: str = "*.parquet") -> dict[str, int]:
    """The objects of a folder by name, in order, each with its size in bytes."""
    if is_remote(folder):
        found = system_of(folder).glob(f"{key_of(folder)}/{pattern}", detail=True).items()
        return {key.rpartition("/")[2]: info["size"] for key, info in sorted(found)}
    return {path.name: path.stat().st_size for path in sorted(folder.glob(pattern))}


class Found(NamedTuple):
    """A file or object: its size, and when it was written, in seconds since 1970."""

    bytes: int
    modified: float


def tree(folder: Path) -> dict[str, Found]:
    """All files or objects below a folder, by their path in it."""
    if is_remote(folder):
        root = key_of(folder)
        found = system_of(folder).find(root, detail=True).items()
        return {
            key[len(root) :].lstrip("/"): Found(info["size"], info["LastModified"].timestamp())
            for key, info in found
        }
    files = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # it has just gone
            if path.is_file():
                status = path.stat()
                files[path.relative_to(folder).as_posix()] = Found(status.st_size, status.st_mtime)
    return files


def open_parquet(path: Path) -> Any:
    """What PyArrow reads a Parquet object from: the path, or an open object of S3."""
    if not is_remote(path):
        return path
    # Footers and column chunks: small reads, so no megabytes ahead.
    return system_of(path).open(key_of(path), "rb", block_size=1 << 20)


def read_table(path: Path, columns: list[str] | None = None, filters: Any = None) -> pa.Table:
    """Reads one Parquet object of the lake."""
    return pq.read_table(open_parquet(path), columns=columns, filters=filters)


def read_schema(path: Path) -> pa.Schema:
    """Reads the schema of a Parquet object of the lake."""
    return pq.read_schema(open_parquet(path))


def read_metadata(path: Path) -> pq.FileMetaData:
    """Reads the footer of a Parquet object of the lake."""
    return pq.read_metadata(open_parquet(path))


def read_json(path: Path) -> dict:
    """Reads a JSON document of the lake.

    Raises:
      FootpathError: the file is not there or is not JSON.
    """
    try:
        # On S3 in one request: a file that is open fails when its object is replaced.
        whole = system_of(path).cat_file(key_of(path)) if is_remote(path) else path.read_bytes()
        return parse_json(path, whole)
    except FileNotFoundError:
        raise FootpathError(
            f"{path} is not there: materialize the asset that makes it first"
        ) from None


def parse_json(path: Path, text: str | bytes) -> dict:
    """A JSON document that was read from a path of the lake.

    Raises:
      FootpathError: it is not JSON, or no object.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FootpathError(f"{path} is not valid JSON ({error}): remove it and rebuild") from None
    if not isinstance(found, dict):
        raise FootpathError(f"{path} is no JSON object: remove it and rebuild")
    return found


def read_texts(paths: list[Path]) -> list[str | None]:
    """Reads small texts of the lake, on S3 side by side; None for each that is not there."""
    if not paths or not is_remote(paths[0]):
        return [path.read_text() if path.exists() else None for path in paths]
    keys = [key_of(path) for path in paths]
    # One request at a time for each object: with more, s3fs asks for its size first.
    found = system_of(paths[0]).cat(keys, on_error="return", max_concurrency=1)
    for error in found.values():
        if isinstance(error, Exception) and not isinstance(error, FileNotFoundError):
            raise error
    texts = (found.get(key_of(path)) for path in paths)
    return [text.decode() if isinstance(text, bytes) else None for text in texts]


def side_by_side(read: Callable[[Any], Any], items: Sequence) -> list:
    """Reads many small objects, each a request where the lake is on S3; keeps their order."""
    found: list = [None] * len(items)
    with ThreadPoolExecutor(READERS) as pool:
        # A task for each reader, not for each item: most are remembered and take no time.
        parts = pool.map(lambda n: [read(item) for item in items[n::READERS]], range(READERS))
        for n, part in enumerate(parts):
            found[n::READERS] = part
    return found
