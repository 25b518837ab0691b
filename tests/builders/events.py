"""Published events, sessions and items for tests, written as the gate would publish them."""

import bisect
import datetime as dt
import itertools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.base.clock import as_of_instant, day_window
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file, publish_table
from contracts.lake.schemas import EVENTS, ITEMS
from features.sessionization.sessions import stage_sessions


@dataclass(frozen=True, order=True)
class Event:
    """One event; those of one instant are delivered in the order of their ids."""

    user_id: str
    timestamp: dt.datetime
    event_id: str
    action: str = "view"
    item_id: str | None = None
    value: float | None = None
    properties: dict[str, str] | None = field(default=None, compare=False)
    session_id: str | None = field(default=None, compare=False)


def place_of(event: Event) -> tuple:
    """Sorts events as they are published; of one instant 9 comes before 10, unlike in text."""
    return event.user_id, event.timestamp, len(event.event_id), event.event_id


class Midnights:
    """The local days around a date, looked up by instant."""

    def __init__(self, around: dt.date, timezone: str, reach: int = 60) -> None:
        self.days = [around + dt.timedelta(days=n) for n in range(-reach, reach)]
        self.starts = [day_window(day, timezone)[0] for day in self.days]

    def day_of(self, instant: dt.datetime) -> dt.date:
        """The local day that holds an instant."""
        return self.days[self.index_of(instant)]

    def index_of(self, instant: dt.datetime) -> int:
        """The place in `days` of the day that holds an instant."""
        return bisect.bisect_right(self.starts, instant) - 1

    def end_of(self, day: dt.date) -> dt.datetime:
        """The instant at which a local day ends."""
        return self.starts[self.days.index(day) + 1]


def publish_events(lake: Lake, events: Iterable[Event], midnights: Midnights) -> list[dt.date]:
    """Publishes events, one object a local day; returns the days that have any."""
    by_day = defaultdict(list)
    ordered = sorted(events, key=place_of)
    for _, tied in itertools.groupby(ordered, key=lambda event: (event.user_id, event.timestamp)):
        for sequence, event in enumerate(tied):
            row = vars(event) | {"sequence": sequence}
            by_day[midnights.day_of(event.timestamp)].append(row)
    for day, rows in by_day.items():
        publish_table(lake, pa.Table.from_pylist(rows, schema=EVENTS), lake.day("events", day))
    return sorted(by_day)


def publish_sessions(dataset: Dataset, lake: Lake, days: list[dt.date]) -> None:
    """Publishes the sessions of some days, without an audit."""
    with lake.staging() as folder:
        for day, path in stage_sessions(dataset, lake, days, folder).items():
            publish_file(path, lake.day("sessions", day))


def publish_items(lake: Lake, rows: Iterable[tuple]) -> None:
    """Publishes a catalog of (item, title, category, attributes)."""
    table = [dict(zip(ITEMS.names, row, strict=True)) for row in rows]
    publish_table(lake, pa.Table.from_pylist(table, schema=ITEMS), lake.single("items"))


def labels_of(lake: Lake, task: str) -> dict[str, str | float]:
    """What a user's label is in a task, as of AS_OF."""
    rows = pq.read_table(lake.day("labels", AS_OF)).to_pylist()
    return {r["user_id"]: r["label"] or r["value"] for r in rows if r["task"] == task}


# The as-of day of the tests of learning.
AS_OF = dt.date(2026, 3, 10)
BERLIN = Midnights(AS_OF, "Europe/Berlin")
CUTOFF = as_of_instant(AS_OF, "Europe/Berlin")
