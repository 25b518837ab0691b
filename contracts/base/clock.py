"""Days of a data set's own time zone, as half-open UTC windows.

A "day" is a local calendar day: 23 or 25 hours long where the clocks change.
"""

import datetime as dt
import os
from zoneinfo import ZoneInfo

from contracts.base.errors import FootpathError


def day_window(day: dt.date, timezone: str) -> tuple[dt.datetime, dt.datetime]:
    """The UTC instants [start, end) of a local day."""
    return _midnight(day, timezone), _midnight(day + dt.timedelta(days=1), timezone)


def days_window(first: dt.date, last: dt.date, timezone: str) -> tuple[dt.datetime, dt.datetime]:
    """The UTC instants [start of first, end of last)."""
    return _midnight(first, timezone), _midnight(last + dt.timedelta(days=1), timezone)


def days_between(first: dt.date, last: dt.date) -> list[dt.date]:
    """Every day from first to last, both included."""
    return [first + dt.timedelta(days=n) for n in range((last - first).days + 1)]


def as_of_instant(as_of: dt.date, timezone: str) -> dt.datetime:
    """The instant that an as-of day stands for: the midnight at which the day ends."""
    return day_window(as_of, timezone)[1]


def now() -> dt.datetime:
    """The present in UTC, to the microsecond; FOOTPATH_NOW sets another one, for tests.

    Raises:
      FootpathError: FOOTPATH_NOW is no instant.
    """
    moved = os.environ.get("FOOTPATH_NOW")
    return parse_instant(moved, "FOOTPATH_NOW") if moved else dt.datetime.now(dt.UTC)


def parse_instant(text: str, what: str, timezone: str = "UTC") -> dt.datetime:
    """An ISO 8601 instant in UTC; one without an offset is local to a time zone.

    Raises:
      FootpathError: it is none; `what` says which.
    """
    try:
        instant = dt.datetime.fromisoformat(text)
    except ValueError:
        raise FootpathError(
            f"{what} is '{text}', and an instant such as 2026-02-01T03:00 was expected"
        ) from None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=ZoneInfo(timezone))
    return instant.astimezone(dt.UTC)


def _midnight(day: dt.date, timezone: str) -> dt.datetime:
    local = dt.datetime.combine(day, dt.time(), tzinfo=ZoneInfo(timezone))
    return local.astimezone(dt.UTC)
