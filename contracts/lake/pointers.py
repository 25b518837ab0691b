"""Pointers: JSON documents that name a folder beside them, and the hashes of its files.

In:  a pointer, which is published last and in one step. Out: its folder, whose files are as they
were when it was written: an array that another file has replaced would not fail but lie.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_file
from contracts.lake.reading import read_json, side_by_side


def file_hashes(folder: Path) -> dict[str, str]:
    """The hash of every file of a local folder, by its name: what a pointer says of it."""
    paths = sorted(folder.iterdir())
    return {path.name: hash_file(path) for path in paths}


def pointed_folder(pointer: Path) -> Path:
    """The folder that a pointer names.

    Raises:
      FootpathError: the pointer is not there, or names no folder beside it.
    """
    return folder_beside(pointer, read_json(pointer))


def folder_beside(pointer: Path, said: dict[str, Any]) -> Path:
    """The folder that a pointer names, by what it says.

    Raises:
      FootpathError: it is none beside the pointer.
    """
    name = said.get("folder")
    if not isinstance(name, str) or name in ("", ".", "..") or {"/", "\\", "\0"} & {*name}:
        raise FootpathError(
            f"{pointer}: field 'folder' is {name!r}, and must be the name of a folder beside it: "
            "build it again"
        )
    return pointer.parent / name


def check_files(pointer: Path, said: dict[str, Any], names: Iterable[str], advice: str) -> None:
    """Checks that files of a pointer's folder are those that it was written for.

    A process hashes a file once, as long as it has the same size and time of change.

    Args:
      pointer: a local one.
      said: what it says.
      names: of the files that will be read.
      advice: what to do where one is not.

    Raises:
      FootpathError: one is missing or changed.
    """
    folder, hashes = folder_beside(pointer, said), said.get("files")
    hashes = hashes if isinstance(hashes, dict) else {}
    names = list(names)
    for name, found in zip(names, side_by_side(_hash, [folder / n for n in names]), strict=True):
        if found is None:
            raise FootpathError(f"{folder / name} is not there: {advice}")
        if found != hashes.get(name):
            raise FootpathError(
                f"{folder / name} is not what {pointer.name} was written for (its hash is "
                f"{found}, not {hashes.get(name)}): {advice}"
            )


def _hash(path: Path) -> str | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return _hash_once(path, status.st_mtime_ns, status.st_size, status.st_ino)


@cache
def _hash_once(path: Path, *_: int) -> str:
    return hash_file(path)
