"""Which days have all their files, and are to be built for the first time.

In:  the landing files there are, the manifests of those that have landed, `automation.complete` of
the YAML, and the present. Out: the days that are expected, each with what is missing of it where it
does not wait for that any longer; and the days that wait, each with what for.

A day that is built already needs none of this: what comes late makes it stale (features/staleness).
"""

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from contracts.base.clock import as_of_instant, day_window, days_between
from contracts.config.dataset import Dataset
from contracts.config.sources import source_end
from contracts.lake.layout import Lake
from features.ingestion.landing import Unread, unread
from features.ingestion.listing import Arrival, find_arrivals
from features.ingestion.manifest import all_manifests


@dataclass(frozen=True)
class Expected:
    """Days by what is known of their files."""

    days: list[dt.date] = field(default_factory=list)  # to be built where they are not
    partial: dict[dt.date, str] = field(default_factory=dict)  # of these, what is missing
    waiting: dict[dt.date, str] = field(default_factory=dict)  # what for, and until when
    missing: dict[dt.date, str] = field(default_factory=dict)  # past their time, without any file


@dataclass(frozen=True)
class Source:
    """What a source has delivered by now."""

    unread: Unread
    expected: Expected


def look_at(dataset: Dataset, lake: Lake, now: dt.datetime) -> Source:
    """Looks which files are there, which of them are to be landed, and which days to be built.

    Files of a day that has not ended do not count yet: it has no partition.

    Raises:
      FootpathError: there is no file.
    """
    arrivals = find_arrivals(dataset, None)
    if dataset.landing.is_dated:
        start, last = dataset.partitions.start, _last_ended(dataset, now, _end(dataset))
        arrivals = [a for a in arrivals if start <= (a.day or last) <= last]  # no day: a fault
    found = unread(dataset, lake, arrivals)
    refused = {arrival.file.path for arrival in found.in_vain}
    usable = [arrival for arrival in arrivals if arrival.file.path not in refused]
    return Source(found, expected_days(dataset, lake, usable, now))


def expected_days(
    dataset: Dataset, lake: Lake, arrivals: list[Arrival], now: dt.datetime
) -> Expected:
    """Finds the days that are to be built.

    Args:
      dataset: gives the days, and when one is complete.
      lake: holds the manifests of landed files.
      arrivals: the landing files that can be used.
      now: the present.
    """
    found = Expected()
    landed = [manifest for manifest in all_manifests(lake).values() if manifest]
    events = {day for manifest in landed for day in manifest.days}
    files = Counter(arrival.day for arrival in arrivals if arrival.day)
    # An undated source ends with its last event; a dated one goes on, unless it has an end.
    last = max([*files, *events], default=None) if not dataset.landing.is_dated else None
    start, end = dataset.partitions.start, _end(dataset) or last
    for day in days_between(start, _last_ended(dataset, now, end)):
        if not dataset.landing.is_dated:
            if day in events or dataset.quality.allow_empty_days:
                found.days.append(day)
            continue
        deadline = complete_at(dataset, day)
        count, asked = files[day], _files_of(dataset, day)
        behind = max(files, default=start) > day + dt.timedelta(days=dataset.landing.ahead_days)
        if asked and count >= asked:
            found.days.append(day)
        elif now < deadline:
            local = deadline.astimezone(ZoneInfo(dataset.timezone))
            said = f"{count} of {asked} files are there" if asked else f"{count} files are there"
            found.waiting[day] = f"{said}; it is built at {local:%Y-%m-%d %H:%M} at the latest"
        elif count:
            found.days.append(day)
            if asked:
                found.partial[day] = f"{count} of its {asked} files are there"
        elif day in events and (behind or dataset.landing.ahead_days > 1):
            found.days.append(day)  # its rows came with files of other days
        elif dataset.quality.allow_empty_days and behind:
            found.days.append(day)
        elif not dataset.quality.allow_empty_days or not files:
            found.missing[day] = "no file of it has arrived"
    return found


def complete_at(dataset: Dataset, day: dt.date) -> dt.datetime:
    """The instant at which a day is built with whatever is there."""
    at = dataset.automation.complete.at
    local = dt.datetime.combine(day + dt.timedelta(days=1), at, ZoneInfo(dataset.timezone))
    # An hour that the spring day lacks is taken as the one after it.
    return max(local.astimezone(dt.UTC), as_of_instant(day, dataset.timezone))


def _files_of(dataset: Dataset, day: dt.date) -> int | None:
    """How many files a day has; of hourly ones, one less or more where the clocks change."""
    asked = dataset.automation.complete.files
    if asked is None or "{hour" not in dataset.landing.url:
        return asked
    start, end = day_window(day, dataset.timezone)
    return round(asked * (end - start) / dt.timedelta(days=1))


def _end(dataset: Dataset) -> dt.date | None:
    """The last day of a source that has ended."""
    return dataset.partitions.end or source_end(dataset.name)


def _last_ended(dataset: Dataset, now: dt.datetime, end: dt.date | None) -> dt.date:
    """The last day that has ended, and is not after the data set's own end."""
    today = now.astimezone(ZoneInfo(dataset.timezone)).date()
    last = today - dt.timedelta(days=1)
    return min(last, end) if end else last
