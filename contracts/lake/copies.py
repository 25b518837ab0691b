"""Copies of a lake on S3: for programs that read and write files of a local disk.

In:  paths of the lake. Out: files here, or objects there; where the lake is local, the paths
themselves.
"""

import os
import time
import uuid
from pathlib import Path
from typing import Any

from contracts.lake.layout import Lake
from contracts.lake.paths import is_remote, key_of, system_of


def local_copy(lake: Lake, path: Path) -> Path:
    """A file or folder of the lake on a local disk: itself, or a fresh copy of it.

    The copy has the same place below `lake.work` and is left there: what has the size and the time
    of change of its original is not fetched again. Its time of access says when it was asked for.
    """
    if not is_remote(path):
        return path
    target = lake.work / path.relative_to(lake.root).as_posix()
    system, root = system_of(path), key_of(path)
    found = system.find(root, detail=True) or {}
    if system.isfile(root):
        found = {root: system.info(root)}
    for key, info in found.items():
        copy = target / key[len(root) :].lstrip("/") if key != root else target
        if not _is_fresh(copy, info):
            copy.parent.mkdir(parents=True, exist_ok=True)
            staged = copy.with_name(f".{copy.name}.{uuid.uuid4().hex}")
            system.get_file(key, str(staged))
            os.replace(staged, copy)
        os.utime(copy, (time.time(), _changed(info)))
    return target


def _is_fresh(copy: Path, info: dict[str, Any]) -> bool:
    if not copy.exists():
        return False
    status = copy.stat()
    return (status.st_size, status.st_mtime) == (info["size"], _changed(info))


def _changed(info: dict[str, Any]) -> float:
    return info["LastModified"].timestamp()


def fetched(paths: list[Path], folder: Path) -> list[Path]:
    """Returns objects of the lake on a local disk: themselves, or copies in an empty folder.

    For many small ones: DuckDB asks S3 several times for each, and these come side by side.
    """
    if not paths or not is_remote(paths[0]):
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    copies = [folder / f"{number}{path.suffix}" for number, path in enumerate(paths)]
    system_of(paths[0]).get([key_of(path) for path in paths], [str(copy) for copy in copies])
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
        system_of(lake.root).put_file(str(file), key_of(lake.root / key))
