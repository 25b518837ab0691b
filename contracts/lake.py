"""Where everything of one data set lies, and the one way in which files become visible there.

A reader's glob is `<table>/*.parquet`: one object a day, replaced in one step. What is not
finished lies in `_staging/`, which no glob reaches.
"""

import contextlib
import datetime as dt
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import FootpathError


def home() -> Path:
    """Returns the folder of all state: FOOTPATH_HOME, or `.footpath` in the working directory."""
    return Path(os.environ.get("FOOTPATH_HOME", ".footpath")).absolute()


@dataclass(frozen=True)
class Lake:
    """The folders of one data set. Nothing is created until it is written."""

    root: Path

    @classmethod
    def of(cls, dataset: str) -> "Lake":
        """Returns the lake folder of a data set below the home folder."""
        return cls(home() / "lake" / dataset)

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
        return [str(path) for day in days if (path := self.day(table, day)).exists()]

    def single(self, name: str) -> Path:
        """Returns the object of a table without partitions, such as `items`."""
        return self.root / f"{name}.parquet"

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """Gives an empty folder on the lake's file system, and removes it afterwards."""
        folder = self.root / "_staging" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        _sweep(folder.parent)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(staging: Path) -> None:
    """Removes what killed runs have left: folders that nobody has written to for a day."""
    for folder in staging.iterdir():
        with contextlib.suppress(FileNotFoundError):  # its own run may be ending right now
            if time.time() - folder.stat().st_mtime > 24 * 3600:
                shutil.rmtree(folder, ignore_errors=True)


def write_parquet(table: pa.Table, path: Path) -> None:
    """Writes a table as zstd Parquet with microsecond timestamps. Not atomic: for staging."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", coerce_timestamps="us")


def publish_file(staged: Path, target: Path) -> None:
    """Makes a finished staged file visible in one step, replacing what was there.

    The data is on disk before the name is: a crash leaves the old object or the new one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(staged, "rb") as handle:
        os.fsync(handle.fileno())
    os.replace(staged, target)


def publish_table(lake: Lake, table: pa.Table, target: Path) -> None:
    """Writes a table to staging and makes it visible at target in one step."""
    with lake.staging() as folder:
        write_parquet(table, folder / target.name)
        publish_file(folder / target.name, target)


def publish_json(lake: Lake, value: object, target: Path) -> None:
    """Writes a JSON document to target in one step."""
    with lake.staging() as folder:
        staged = folder / target.name
        staged.write_text(json.dumps(value, indent=2, sort_keys=True, default=str) + "\n")
        publish_file(staged, target)


def publish_folder(staged: Path, target: Path) -> None:
    """Moves a finished folder to a name that nobody has yet; its pointer is published after it.

    A folder of the same name is the same content (names carry a hash), so it is kept.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    os.replace(staged, target)


def read_json(path: Path) -> dict:
    """Reads a JSON document of the lake.

    Raises:
      FootpathError: the file is not there or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise FootpathError(
            f"{path} is not there: materialize the asset that makes it first"
        ) from None
    except json.JSONDecodeError as error:
        raise FootpathError(f"{path} is not valid JSON ({error}): remove it and rebuild") from None
