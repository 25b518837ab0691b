"""How often each service is read over HTTP: what a service is retired by.

    <lake>/feature_store/reads/<day>/<worker>.json    service -> requests, users, last

A worker adds up in memory and writes its whole day, again and again, to a file of its own, so no
two writers meet. Days are of UTC; `footpath clean` removes those that nobody asks for any more.
What was read past the service, by Feast alone, is not counted.
"""

import dataclasses
import datetime as dt
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path

from contracts.base.clock import now
from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json
from contracts.lake.reading import parse_json, read_texts, tree
from features.store.view_specs import repository

RECENT_DAYS = 7


@dataclass(frozen=True)
class Reads:
    """Reads of one service."""

    requests: int = 0
    users: int = 0
    last: str = ""  # ISO 8601, UTC

    def __add__(self, other: "Reads") -> "Reads":
        """Both together."""
        last = max(self.last, other.last)
        return Reads(self.requests + other.requests, self.users + other.users, last)


class ReadCounter:
    """Counts the reads of one worker, by day and service."""

    def __init__(self, lake: Lake) -> None:
        """Begins with none.

        Args:
          lake: whose services; where the counts go.
        """
        self._lake, self._worker, self._lock = lake, uuid.uuid4().hex, threading.Lock()
        self._days: dict[dt.date, dict[str, Reads]] = {}
        self._unwritten: set[dt.date] = set()

    def note(self, service: str, users: int) -> None:
        """Counts a request for some users."""
        instant = now()
        with self._lock:
            day = self._days.setdefault(instant.date(), {})
            day[service] = day.get(service, Reads()) + Reads(1, users, instant.isoformat())
            self._unwritten.add(instant.date())

    def flush(self) -> None:
        """Writes the days that have changed; those before today are then forgotten."""
        with self._lock:
            changed = {day: dict(self._days[day]) for day in sorted(self._unwritten)}
            self._unwritten.clear()
        for day, services in changed.items():
            document = {name: dataclasses.asdict(reads) for name, reads in services.items()}
            try:
                path = _folder(self._lake) / day.isoformat() / f"{self._worker}.json"
                publish_json(self._lake, document, path)
            except Exception:
                with self._lock:
                    self._unwritten.add(day)
                raise
        with self._lock:
            for day in self._days.keys() - self._unwritten - {now().date()}:
                del self._days[day]


def recent_reads(lake: Lake, service: str, days: int = RECENT_DAYS) -> Reads:
    """Reads of a service today and on the days before."""
    since = (now().date() - dt.timedelta(days=days)).isoformat()
    files = [name for name in tree(_folder(lake)) if name.split("/")[0] >= since]
    paths = [_folder(lake) / name for name in sorted(files) if name.endswith(".json")]
    total = Reads()
    for path, text in zip(paths, read_texts(paths), strict=True):
        found = parse_json(path, text or "{}")
        total += Reads(**found.get(service, {}))
    return total


def days_counted(lake: Lake) -> dict[str, tuple[Path, int, float]]:
    """Day -> the folder of its counts, their bytes, and when they were last written."""
    days: dict[str, tuple[Path, int, float]] = {}
    for name, found in sorted(tree(_folder(lake)).items()):
        day = name.split("/")[0]
        _, size, written = days.get(day, (None, 0, 0.0))
        days[day] = (_folder(lake) / day, size + found.bytes, max(written, found.modified))
    return days


def first_day_kept(instant: dt.datetime) -> dt.date:
    """The first day whose counts `recent_reads` may ask for, and a day more.

    The clocks of who counts, who cleans and who retires may be a day apart.
    """
    return instant.date() - dt.timedelta(days=RECENT_DAYS + 1)


def refuse_if_read(lake: Lake, service: str) -> None:
    """Refuses to go on while somebody reads a service.

    Raises:
      FootpathError: it was read in the last days.
    """
    reads = recent_reads(lake, service)
    if reads.requests:
        raise FootpathError(
            f"{service} was read {reads.requests:,} times in the last {RECENT_DAYS} days, last "
            f"{reads.last[:16].replace('T', ' ')} UTC: whoever reads it moves first; "
            "--although-read retires it all the same"
        )


def _folder(lake: Lake) -> Path:
    return repository(lake) / "reads"
