"""Where everything of one data set lies, and the one way in which files become visible there.

A reader's glob is `<table>/*.parquet`: one object a day, replaced in one step. What is not
finished lies in a staging folder, which no glob reaches: on a local disk it is renamed into place,
on S3 it is sent as one object. A path of the lake is a `pathlib.Path`, or on S3 a universal path
with the same methods; nothing but these methods and the functions here is used on it.

    FOOTPATH_HOME   state of this machine (default .footpath)
    FOOTPATH_LAKE   where the lakes of all data sets lie, such as s3://bucket/lake
                    (default <home>/lake); credentials and endpoint come from the usual AWS_*
                    variables
"""

import contextlib
import datetime as dt
import fcntl
import fnmatch
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import FootpathError
from contracts.remote import check_bucket

# A staging folder that nobody has written to for so long was left by a killed run.
LEFT_BEHIND_SECONDS = 24 * 3600


def home() -> Path:
    """Returns the folder of this machine's state: FOOTPATH_HOME, or `.footpath` here."""
    return Path(os.environ.get("FOOTPATH_HOME", ".footpath")).absolute()


def lakes() -> Path:
    """Returns the folder of all lakes: FOOTPATH_LAKE, or `lake` in the home folder."""
    where = os.environ.get("FOOTPATH_LAKE", "")
    if "://" not in where:
        return Path(where).absolute() if where else home() / "lake"
    return _remote(where)


@cache
def _remote(url: str) -> Path:
    """Returns a universal path; one instance, for it holds the connections."""
    from upath import UPath

    try:
        # A long-lived process would see the listing of yesterday.
        path = cast("Path", UPath(url, use_listings_cache=False))
        check_bucket(_system(path), url)
    except (ValueError, ImportError) as error:
        raise FootpathError(
            f"FOOTPATH_LAKE is '{url}', which cannot be opened ({error}): "
            f"give a folder or a URL such as s3://bucket/lake"
        ) from None
    return path


def is_remote(path: Path) -> bool:
    """Tells whether a path of the lake is not on a local disk."""
    return not isinstance(path, Path)


@dataclass(frozen=True)
class Lake:
    """The folders of one data set. Nothing is created until it is written."""

    root: Path

    @classmethod
    def of(cls, dataset: str) -> "Lake":
        """Returns the lake of a data set."""
        return cls(lakes() / dataset)

    @property
    def work(self) -> Path:
        """The local folder for what is written in place: the lake itself where that is local."""
        return home() / "work" / self.root.name if is_remote(self.root) else self.root

    def table(self, name: str) -> Path:
        """Returns the folder of a table of daily objects."""
        return self.root / name

    def day(self, table: str, day: dt.date) -> Path:
        """Returns the one object that holds a table's day."""
        return self.root / table / f"{day.isoformat()}.parquet"

    def days(self, table: str) -> list[dt.date]:
        """Returns the published days of a table, in order."""
        return sorted(dt.date.fromisoformat(p.stem) for p in self.table(table).glob("*.parquet"))

    def existing(self, table: str, days: list[dt.date]) -> list[str]:
        """Returns the objects of those days that are published, as strings, in order."""
        published = set(self.days(table))
        return [str(self.day(table, day)) for day in days if day in published]

    def single(self, name: str) -> Path:
        """Returns the object of a table without partitions, such as `items`."""
        return self.root / f"{name}.parquet"

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """Gives an empty local folder, on the lake's own disk if it has one; removes it after."""
        folder = self.work / "_staging" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        _sweep(folder.parent)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Waits until no other process of this machine holds the lock of that name."""
        path = self.work / name / ".lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _sweep(staging: Path) -> None:
    """Removes what killed runs have left."""
    for folder in staging.iterdir():
        with contextlib.suppress(FileNotFoundError):  # its own run may be ending right now
            if time.time() - folder.stat().st_mtime > LEFT_BEHIND_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def write_parquet(table: pa.Table, path: Path) -> None:
    """Writes a table as zstd Parquet with microsecond timestamps. Not atomic: for staging."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", coerce_timestamps="us")


def publish_file(staged: Path, target: Path) -> None:
    """Makes a finished staged file visible in one step, replacing what was there.

    On a disk the data is there before the name is; on S3 the object appears when the last byte of
    it has arrived. A crash leaves the old object or the new one.
    """
    if is_remote(target):
        _system(target).put_file(str(staged), _key(target))
        staged.unlink()
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(staged, "rb") as handle:
        os.fsync(handle.fileno())
    os.replace(staged, target)


def publish_table(lake: Lake, table: pa.Table, target: Path) -> None:
    """Writes a table to staging and makes it visible at target in one step."""
    with lake.staging() as folder:
        write_parquet(table, folder / target.name)
        publish_file(folder / target.name, target)


def publish_text(lake: Lake, text: str, target: Path) -> None:
    """Writes a UTF-8 text to target in one step."""
    with lake.staging() as folder:
        staged = folder / target.name
        staged.write_text(text, encoding="utf-8")
        publish_file(staged, target)


def publish_json(lake: Lake, value: object, target: Path) -> None:
    """Writes a JSON document to target in one step."""
    publish_text(lake, json.dumps(value, indent=2, sort_keys=True, default=str) + "\n", target)


def publish_folder(staged: Path, target: Path) -> None:
    """Moves a finished folder to a name that nobody has yet; its pointer is published after it.

    A folder of the same name is the same content (names carry a hash), so it is kept. On S3 the
    objects are sent one after the other: what a killed run has sent is sent again.
    """
    if is_remote(target):
        for path in sorted(path for path in staged.rglob("*") if path.is_file()):
            publish_file(path, target / path.relative_to(staged).as_posix())
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    os.replace(staged, target)


def local_copy(lake: Lake, path: Path) -> Path:
    """Returns a file or folder of the lake on a local disk: itself, or a fresh copy of it.

    The copy has the same place below `lake.work` and is left there: what has the size and the time
    of change of its original is not fetched again.
    """
    if not is_remote(path):
        return path
    target = lake.work / path.relative_to(lake.root).as_posix()
    system, root = _system(path), _key(path)
    found = system.find(root, detail=True) or {}
    if system.isfile(root):
        found = {root: system.info(root)}
    for key, info in found.items():
        copy = target / key[len(root) :].lstrip("/") if key != root else target
        if not _is_fresh(copy, info):
            copy.parent.mkdir(parents=True, exist_ok=True)
            staged = copy.with_name(f".{copy.name}.{uuid.uuid4().hex}")
            system.get_file(key, str(staged))
            os.utime(staged, (_changed(info), _changed(info)))
            os.replace(staged, copy)
    return target


def _is_fresh(copy: Path, info: dict[str, Any]) -> bool:
    if not copy.exists():
        return False
    status = copy.stat()
    return (status.st_size, status.st_mtime) == (info["size"], _changed(info))


def _changed(info: dict[str, Any]) -> float:
    return info["LastModified"].timestamp()


def stamps(folder: Path, pattern: str = "*.parquet") -> dict[str, str]:
    """Returns the objects of a folder by name, each with what changes when it does."""
    if is_remote(folder):
        found = _system(folder).glob(f"{_key(folder)}/{pattern}", detail=True).items()
        return {key.rpartition("/")[2]: str(info["ETag"]).strip('"') for key, info in found}
    if not folder.exists():
        return {}
    with os.scandir(folder) as entries:  # a tenth of the time of a glob: sensors ask every minute
        status = {e.name: e.stat() for e in entries if fnmatch.fnmatch(e.name, pattern)}
    return {name: f"{found.st_size}-{found.st_mtime_ns}" for name, found in status.items()}


def sizes(folder: Path, pattern: str = "*.parquet") -> dict[str, int]:
    """Returns the objects of a folder by name, in order, each with its size in bytes."""
    if is_remote(folder):
        found = _system(folder).glob(f"{_key(folder)}/{pattern}", detail=True).items()
        return {key.rpartition("/")[2]: info["size"] for key, info in sorted(found)}
    return {path.name: path.stat().st_size for path in sorted(folder.glob(pattern))}


def read_texts(paths: list[Path]) -> list[str | None]:
    """Reads small texts of the lake, on S3 side by side; None for each that is not there."""
    if not paths or not is_remote(paths[0]):
        return [path.read_text() if path.exists() else None for path in paths]
    keys = [_key(path) for path in paths]
    # One request at a time for each object: with more, s3fs asks for its size first.
    found = _system(paths[0]).cat(keys, on_error="return", max_concurrency=1)
    for error in found.values():
        if isinstance(error, Exception) and not isinstance(error, FileNotFoundError):
            raise error
    texts = (found.get(_key(path)) for path in paths)
    return [text.decode() if isinstance(text, bytes) else None for text in texts]


def fetched(paths: list[Path], folder: Path) -> list[Path]:
    """Returns objects of the lake on a local disk: themselves, or copies in an empty folder.

    For many small ones: DuckDB asks S3 several times for each, and these come side by side.
    """
    if not paths or not is_remote(paths[0]):
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    copies = [folder / f"{number}{path.suffix}" for number, path in enumerate(paths)]
    _system(paths[0]).get([_key(path) for path in paths], [str(copy) for copy in copies])
    return copies


def send_copy(lake: Lake, path: Path, last: str = "") -> None:
    """Publishes what a program has written below `lake.work` in the place of a path of the lake.

    Nothing is to be done where the lake is local: there it was written in its place. The object
    named `last` is sent last, for it says that the folder is whole; locks are not sent.
    """
    if not is_remote(path):
        return
    written = lake.work / path.relative_to(lake.root).as_posix()
    files = [written] if written.is_file() else sorted(written.rglob("*"))
    files = [file for file in files if file.is_file() and file.suffix != ".lock"]
    for file in sorted(files, key=lambda file: file.name == last):
        key = file.relative_to(lake.work).as_posix()
        _system(lake.root).put_file(str(file), _key(lake.root / key))


def remove_files(paths: list[Path]) -> None:
    """Removes objects of the lake; nothing happens to those that are not there."""
    if paths and is_remote(paths[0]):
        _system(paths[0]).rm([_key(path) for path in paths])
        return
    for path in paths:
        path.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Removes a folder of the lake with all that is in it; nothing happens if it is not there."""
    if not is_remote(path):
        shutil.rmtree(path, ignore_errors=True)
    elif path.exists():
        _system(path).rm(_key(path), recursive=True)


def ibis_path(path: Path | str) -> str:
    """Returns a path of the lake as Ibis, and Feast through it, must be given it.

    For s3:// Ibis loads an extension of DuckDB, which would be downloaded and has settings of its
    own; s3a:// names the same object and is read through the file system that was registered.
    """
    return str(path).replace("s3://", "s3a://", 1)


def open_parquet(path: Path) -> Any:
    """Returns what PyArrow reads a Parquet object from: the path, or an open object of S3."""
    if not is_remote(path):
        return path
    # Footers and column chunks: small reads, so no megabytes ahead.
    return _system(path).open(_key(path), "rb", block_size=1 << 20)


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
        return parse_json(path, path.read_text())
    except FileNotFoundError:
        raise FootpathError(
            f"{path} is not there: materialize the asset that makes it first"
        ) from None


def parse_json(path: Path, text: str) -> dict:
    """Returns a JSON document that was read from a path of the lake.

    Raises:
      FootpathError: it is not JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise FootpathError(f"{path} is not valid JSON ({error}): remove it and rebuild") from None


def _system(path: Path) -> Any:
    return cast("Any", path).fs


def _key(path: Path) -> str:
    return cast("Any", path).path
