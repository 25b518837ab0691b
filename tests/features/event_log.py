"""Published events for tests, written as the gate would publish them."""

import bisect
import datetime as dt
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa

from contracts.base.clock import day_window
from contracts.config.dataset import Dataset, load_dataset
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from contracts.lake.schemas import EVENTS


@dataclass(frozen=True, order=True)
class Event:
    """One event, in the order of the published files."""

    user_id: str
    timestamp: dt.datetime
    event_id: str
    action: str = "view"
    item_id: str | None = None
    value: float | None = None
    properties: dict[str, str] | None = field(default=None, compare=False)


class Midnights:
    """The local days around a date, looked up by instant."""

    def __init__(self, around: dt.date, timezone: str, reach: int = 60) -> None:
        self.days = [around + dt.timedelta(days=n) for n in range(-reach, reach)]
        self.starts = [day_window(day, timezone)[0] for day in self.days]

    def day_of(self, instant: dt.datetime) -> dt.date:
        """Returns the local day that holds an instant."""
        return self.days[self.index_of(instant)]

    def index_of(self, instant: dt.datetime) -> int:
        """Returns the place in `days` of the day that holds an instant."""
        return bisect.bisect_right(self.starts, instant) - 1

    def end_of(self, day: dt.date) -> dt.datetime:
        """Returns the instant at which a local day ends."""
        return self.starts[self.days.index(day) + 1]


def dataset_like(name: str, **sections: object) -> Dataset:
    """Returns a configured data set with some sections replaced, and checked again."""
    return Dataset.model_validate(load_dataset(name).model_dump() | sections)


def publish_events(lake: Lake, events: Iterable[Event], midnights: Midnights) -> list[dt.date]:
    """Publishes events, one object a local day; returns the days that have any."""
    by_day = defaultdict(list)
    for event in sorted(events, key=lambda event: (event.user_id, event.timestamp, event.event_id)):
        by_day[midnights.day_of(event.timestamp)].append(event)
    for day, rows in by_day.items():
        table = pa.Table.from_pylist(
            [vars(row) | {"session_id": None} for row in rows], schema=EVENTS
        )
        publish_table(lake, table, lake.day("events", day))
    return sorted(by_day)
