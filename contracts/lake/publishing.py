"""The one way in which files become visible in a lake, and go from it.

In:  a finished file or folder in staging, or a table, text or JSON document. Out: its object, in
one step: on a local disk it is renamed into place, on S3 it is sent as one object. A crash leaves
the old object or the new one.
"""

import contextlib
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.base.disks import writing
from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.paths import is_remote, key_of, system_of
from contracts.lake.reading import read_json

PUBLISHERS = 8

# A document that several machines change: how often it is tried, and what S3 says of one that
# somebody else has changed.
ATTEMPTS = 8
FASTER = ("PreconditionFailed", "ConditionalRequestConflict")

T = TypeVar("T")


def write_parquet(table: pa.Table, path: Path) -> None:
    """Writes a table as zstd Parquet with microsecond timestamps. Not atomic: for staging."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path):
        pq.write_table(table, path, compression="zstd", coerce_timestamps="us")


def publish_file(staged: Path, target: Path) -> None:
    """Makes a finished staged file visible in one step, replacing what was there.

    On a disk the data is there before the name is; on S3 the object appears when the last byte of
    it has arrived. A crash leaves the old object or the new one.
    """
    if is_remote(target):
        system_of(target).put_file(str(staged), key_of(target))
        staged.unlink()
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(staged, "rb") as handle:
        os.fsync(handle.fileno())
    os.replace(staged, target)


def side_by_side(publish: Callable[[T], object], things: Iterable[T]) -> None:
    """Publishes many things at once: the answer of the disk or of S3 is what is waited for.

    Raises:
      Exception: of the first thing that could not be published; those begun by then are finished.
    """
    with ThreadPoolExecutor(PUBLISHERS) as pool:
        for _ in pool.map(publish, things):
            pass


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
    publish_text(lake, json_text(value), target)


def change_json(lake: Lake, target: Path, change: Callable[[dict], dict]) -> None:
    """Replaces a JSON document by what is made of it, so that no change beside it is lost.

    On a disk the caller holds a lock. Machines that share a lake on S3 hold none in common: there
    the new document is written only if the old one is still there, else it is read again.

    Args:
      lake: of the document.
      target: its path.
      change: gets the document, {} if there is none, and returns the new one; called again if
        somebody else was faster.

    Raises:
      FootpathError: others were faster again and again.
    """
    if not is_remote(target):
        publish_json(lake, change(read_json(target) if target.exists() else {}), target)
        return
    system, key = system_of(target), key_of(target)
    for attempt in range(ATTEMPTS):
        condition: dict[str, str] = {"IfNoneMatch": "*"}
        with contextlib.suppress(FileNotFoundError):
            condition = {"IfMatch": system.info(key, refresh=True)["ETag"]}
        before = read_json(target) if "IfMatch" in condition else {}
        try:
            system.pipe_file(key, json_text(change(before)).encode(), **condition)
        except OSError as error:
            said = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")
            if said not in FASTER:
                raise
            time.sleep(random.uniform(0, 0.05 * 2**attempt))
        else:
            return
    raise FootpathError(f"{target}: others changed it {ATTEMPTS} times meanwhile: try again")


def json_text(value: object) -> str:
    """A JSON document as it lies in a lake."""
    return json.dumps(value, indent=2, sort_keys=True, default=str) + "\n"


def publish_folder(staged: Path, target: Path) -> None:
    """Moves a finished folder to a name that nobody has yet; its pointer is published after it.

    A folder of the same name is the same content (names carry a hash), so it is kept, and is new
    again: nobody takes it for forgotten. On S3 the objects are sent one after the other: what a
    killed run has sent is sent again.
    """
    if is_remote(target):
        for path in sorted(path for path in staged.rglob("*") if path.is_file()):
            publish_file(path, target / path.relative_to(staged).as_posix())
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.utime(target)
    except FileNotFoundError:
        os.replace(staged, target)


def remove_files(paths: list[Path]) -> None:
    """Removes objects of the lake; nothing happens to those that are not there."""
    if paths and is_remote(paths[0]):
        system_of(paths[0]).rm([key_of(path) for path in paths])
        return
    for path in paths:
        path.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Removes a folder of the lake with all that is in it; nothing happens if it is not there."""
    if not is_remote(path):
        shutil.rmtree(path, ignore_errors=True)
    elif path.exists():
        system_of(path).rm(key_of(path), recursive=True)
