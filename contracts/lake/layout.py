"""Where everything of one data set lies, and where what is not finished lies meanwhile.

A reader's glob is `<table>/*.parquet`: one object a day, replaced in one step (publishing.py). What
is not finished lies in a staging folder, which no glob reaches. A path of the lake is a
`pathlib.Path`, or on S3 a universal path with the same methods; nothing but these methods and the
functions of publishing.py, reading.py and copies.py is used on it.

    FOOTPATH_HOME   state of this machine (default .footpath)
    FOOTPATH_LAKE   where the lakes of all data sets lie, such as s3://bucket/lake
                    (default <home>/lake); credentials and endpoint come from the usual AWS_*
                    variables
"""

import contextlib
import datetime as dt
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

from contracts.base.disks import writing
from contracts.base.errors import FootpathError
from contracts.base.locks import OwnFolder, locked, sweep_left
from contracts.base.text import without_userinfo
from contracts.lake.paths import is_remote, system_of
from contracts.lake.remote import check_bucket

# Of all that lies in a lake: tables, documents, folders. There is one at a time.
FORMAT, STAMP = 1, "format.json"
_STAMPED: set[Path] = set()  # lakes of this format, as this process has seen
_UNSTAMPED: set[Path] = set()  # lakes that are still to be begun

# A folder that is nobody's own and that nobody has written to for so long was left by a killed run.
LEFT_BEHIND_SECONDS = 24 * 3600


def home() -> Path:
    """The folder of this machine's state: FOOTPATH_HOME, or `.footpath` here."""
    folder = Path(os.environ.get("FOOTPATH_HOME") or ".footpath").absolute()
    if "?" in str(folder):  # Dagster's address of its files would end there
        raise FootpathError(f"FOOTPATH_HOME is {folder}: give a folder without '?' in its name")
    return folder


# Own folders for spill: this process's is the last, before it those of whom it was forked from.
_SPILL: list[tuple[int, OwnFolder]] = []


def spill_folder() -> Path:
    """This process's own folder for what does not fit into memory: in the home, mode 0700.

    The first call removes what processes have left that have ended.
    """
    place = home() / "spill"
    if _SPILL and _SPILL[-1][0] == os.getpid():
        own = _SPILL[-1][1]
        if own.path.parent == place and own.path.is_dir():
            return own.path
        _SPILL.pop()  # the home is another one now
        own.remove()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    sweep_left(place, LEFT_BEHIND_SECONDS)
    _SPILL.append((os.getpid(), OwnFolder(place, 0o700)))
    return _SPILL[-1][1].path


def lakes() -> Path:
    """The folder of all lakes: FOOTPATH_LAKE, or `lake` in the home folder."""
    where = os.environ.get("FOOTPATH_LAKE", "")
    if "://" not in where:
        return Path(where).absolute() if where else home() / "lake"
    return _remote(where)


@cache
def _remote(url: str) -> Path:
    """A universal path; one instance, for it holds the connections."""
    from upath import UPath

    without_userinfo(url, "FOOTPATH_LAKE")
    try:
        # A long-lived process would see the listing of yesterday.
        path = cast("Path", UPath(url, use_listings_cache=False))
        check_bucket(system_of(path), url)
    except (ValueError, ImportError) as error:
        raise FootpathError(
            f"FOOTPATH_LAKE is '{url}', which cannot be opened ({error}): "
            f"give a folder or a URL such as s3://bucket/lake"
        ) from None
    return path


@dataclass(frozen=True)
class Lake:
    """The folders of one data set. Nothing is created until it is written."""

    root: Path

    @classmethod
    def of(cls, dataset: str) -> "Lake":
        """The lake of a data set.

        Raises:
          FootpathError: what lies there is of another format.
        """
        root = lakes() / dataset
        if root not in _STAMPED:
            stamp = root / STAMP
            if not stamp.exists():
                _UNSTAMPED.add(root)
                return cls(root)
            found = json.loads(stamp.read_text()).get("format")
            if found != FORMAT:
                raise FootpathError(
                    f"{root} is a lake of format {found}, and format {FORMAT} is read here: "
                    f"build it again in another place (FOOTPATH_LAKE), or remove it"
                )
            _STAMPED.add(root)
        return cls(root)

    def _stamp(self) -> None:
        """Notes the format of all that will lie in a new lake, before the first of it does."""
        if self.root in _UNSTAMPED:
            self.root.mkdir(parents=True, exist_ok=True)
            (self.root / STAMP).write_text(json.dumps({"format": FORMAT}) + "\n")
            _UNSTAMPED.discard(self.root)
            _STAMPED.add(self.root)

    @property
    def work(self) -> Path:
        """The local folder for what is written in place: the lake itself where that is local."""
        return home() / "work" / self.root.name if is_remote(self.root) else self.root

    def table(self, name: str) -> Path:
        """The folder of a table of daily objects."""
        return self.root / name

    def day(self, table: str, day: dt.date) -> Path:
        """The one object that holds a table's day."""
        return self.root / table / f"{day.isoformat()}.parquet"

    def days(self, table: str) -> list[dt.date]:
        """The published days of a table, in order."""
        return sorted(dt.date.fromisoformat(p.stem) for p in self.table(table).glob("*.parquet"))

    def existing(self, table: str, days: list[dt.date]) -> list[str]:
        """The objects of those days that are published, as strings, in order."""
        published = set(self.days(table))
        return [str(self.day(table, day)) for day in days if day in published]

    def single(self, name: str) -> Path:
        """The object of a table without partitions, such as `items`."""
        return self.root / f"{name}.parquet"

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty local folder, on the lake's own disk if it has one; removes it after.

        Raises:
          FootpathError: the disk does not take what is written there.
        """
        self._stamp()
        place = self.work / "_staging"
        sweep_left(place, LEFT_BEHIND_SECONDS)
        own = OwnFolder(place)
        try:
            with writing(own.path):
                yield own.path
        finally:
            own.remove()

    def locked(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Waits until no other process of this machine holds the lock of that name."""
        return locked(self.work / name / ".lock")
