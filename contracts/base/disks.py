"""Says in one sentence that a file cannot be written: its disk is full, read-only, or limits it.

In:  what the operating system, SQLite, DuckDB, PyArrow or safetensors raise, which often name no
file. Out: a FootpathError that names it, and how much room there is.
"""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from contracts.base.errors import FootpathError

_SAID = re.compile(
    "No space left on device|Disk quota exceeded|database or disk is full|File too large"
    "|Read-only file system|attempt to write a readonly database"
)


@contextlib.contextmanager
def writing(place: Path) -> Iterator[None]:
    """Names what is being written where its disk does not take it.

    Args:
      place: the file; or the folder of files, of which the newest is it.

    Raises:
      FootpathError: the disk is full, or may not be written.
    """
    try:
        yield
    except FootpathError:
        raise
    except Exception as error:
        if told := disk_sentence(str(error), _newest(place)):
            raise FootpathError(told) from None
        raise


def disk_sentence(said: str, place: Path) -> str | None:
    """The meaning of an error's message; None if it is not about a disk.

    Args:
      said: the message.
      place: what was being written, or where that is not known a folder of the disk that it may be.
    """
    found = _SAID.search(said)
    if not found:
        return None
    there = next((folder for folder in (place, *place.parents) if folder.exists()), Path("/"))
    free = shutil.disk_usage(there).free / 1e6
    return (
        f"{place} cannot be written: {found[0]} (its disk has {free:,.1f} MB free): make room "
        "there, or set FOOTPATH_HOME to a folder of another disk"
    )


def _newest(place: Path) -> Path:
    files = [path for path in place.rglob("*") if path.is_file()] if place.is_dir() else []
    return max(files, key=lambda path: path.stat().st_mtime_ns, default=place)
