"""The shop's time: whole seconds since the local midnight on which its first day begins.

One number per event instead of a date keeps everything below it vectorised; this module turns
such seconds into local days, UTC hours and the text of a timestamp.
"""

import datetime as dt
from dataclasses import dataclass
from functools import cached_property
from zoneinfo import ZoneInfo

import numpy as np

from contracts.base.clock import day_window

ZONE = "Europe/Berlin"
HOUR = 3600
DAY = 24 * HOUR


@dataclass(frozen=True)
class Calendar:
    """The local days [start, start + days) of the shop."""

    start: dt.date
    days: int

    @cached_property
    def origin(self) -> dt.datetime:
        """The UTC instant of second 0; a whole hour, as every midnight in Berlin is."""
        return day_window(self.start, ZONE)[0]

    @cached_property
    def midnights(self) -> np.ndarray:
        """Seconds at which each day begins, and the end of the last: int64[days + 1]."""
        instants = [day_window(self.date(day), ZONE)[0] for day in range(self.days + 1)]
        return np.array([(i - self.origin).total_seconds() for i in instants], np.int64)

    @property
    def end(self) -> int:
        """The second at which the last day ends."""
        return int(self.midnights[-1])

    @cached_property
    def offsets(self) -> np.ndarray:
        """Offset from UTC in seconds in each hour of the shop: int32[hours]."""
        zone = ZoneInfo(ZONE)
        walls = [self.hour(n).astimezone(zone) for n in range(self.end // HOUR)]
        offsets = [wall.replace(tzinfo=dt.UTC) - wall for wall in walls]
        return np.array([offset.total_seconds() for offset in offsets], np.int32)

    def date(self, day: int) -> dt.date:
        """The date of a day."""
        return self.start + dt.timedelta(days=day)

    def hour(self, hour: int) -> dt.datetime:
        """The UTC instant at which an hour of the shop begins."""
        return self.origin + dt.timedelta(hours=hour)

    def local(self, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns local day, second of the wall clock's day, and UTC offset, each int32[n]."""
        offset = self.offsets[seconds // HOUR]
        wall = seconds + (offset - self.offsets[0])
        day = wall // DAY  # NumPy's own divmod is ten times slower than these two
        return day, wall - day * DAY, offset
