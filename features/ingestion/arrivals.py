"""Which landing files there are, and on which day each arrived.

In:  the data set's URL with date fields, with {hours} since an origin, or a plain glob, below its
     source folder.
Out: the files of some arrival days, or all of them. An arrival day is the local day of the data set
that the hour in the file's name falls in; without an hour, the date in the name itself.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from contracts.base.clock import day_window, days_between
from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.config.sources import source_folder
from features.ingestion.files import SourceFile, find_files, is_absolute
from features.ingestion.manifest import side_by_side
from features.ingestion.patterns import name_pattern

# As a glob says it: {hours} may be longer, and what does not fit is left out after it was found.
DIGITS = {"year": "[0-9]" * 4} | dict.fromkeys(("month", "day", "hour"), "[0-9]" * 2)
DIGITS["hours"] = "[0-9]*"


@dataclass(frozen=True)
class Arrival:
    """A landing file, and when it came; None where the source is not dated."""

    file: SourceFile
    day: dt.date | None
    instant: dt.datetime | None  # UTC


def arrival_days(dataset: Dataset) -> list[dt.date]:
    """Returns the days on which files have arrived, in order; none for an undated source."""
    if not dataset.landing.is_dated:
        return []
    return sorted({arrival.day for arrival in find_arrivals(dataset, None) if arrival.day})


def find_arrivals(
    dataset: Dataset, days: list[dt.date] | None, folder: str | None = None
) -> list[Arrival]:
    """Finds the landing files of some arrival days, in order of path.

    Args:
      dataset: says where and under which names files land.
      days: arrival days; None for all. An undated source has all its files on no day.
      folder: where the files lie; by default the data set's source folder.

    Raises:
      FootpathError: no file is there at all, or one has an impossible date in its name.
    """
    landing = dataset.landing
    folder = folder or ("" if is_absolute(landing.url) else source_folder(dataset.name))
    is_cut = days is not None and landing.is_dated
    dates = _dates(dataset, days) if is_cut and landing.origin is None else None
    globs = [_glob(landing.url, {})] if dates is None else [_glob(landing.url, d) for d in dates]
    # In a store, each pattern is a request or more.
    found = side_by_side(lambda pattern: find_files(folder, pattern), globs)
    files = {file.path: file for of_pattern in found for file in of_pattern}
    if landing.origin:
        fits = name_pattern(landing.url).fullmatch
        files = {path: file for path, file in files.items() if fits(path)}
    arrivals = [_arrival(dataset, file) for _, file in sorted(files.items())]
    if is_cut:
        wanted = set(days)
        arrivals = [arrival for arrival in arrivals if arrival.day in wanted]
    # Days without a file are fine where the source has such days, and has files at all.
    may_be_none = is_cut and dataset.quality.allow_empty_days
    if not arrivals and not (may_be_none and find_files(folder, _glob(landing.url, {}))):
        when = f" for {_span(days)}" if is_cut and days else ""
        raise FootpathError(
            f"data set '{dataset.name}' has no landing file{when}: "
            f"looked for {landing.url} under {folder or 'its absolute address'}"
        )
    return arrivals


def _dates(dataset: Dataset, days: list[dt.date]) -> list[dict[str, str]]:
    """Returns the dates that may stand in the names of files that arrive on local days."""
    dates = set(days)
    if "{hour}" in dataset.landing.url:
        zone = ZoneInfo(dataset.landing.arrival_timezone)
        for day in days:
            start, end = day_window(day, dataset.timezone)
            dates.update(days_between(start.astimezone(zone).date(), end.astimezone(zone).date()))
    return [
        {"year": f"{d.year:04}", "month": f"{d.month:02}", "day": f"{d.day:02}"}
        for d in sorted(dates)
    ]


def _glob(url: str, values: Mapping[str, str]) -> str:
    """Returns the URL with some date fields filled in and the others open."""
    for field, digits in DIGITS.items():
        url = url.replace(f"{{{field}}}", values.get(field, digits))
    return url


def _arrival(dataset: Dataset, file: SourceFile) -> Arrival:
    """Reads the arrival out of a file's name."""
    landing = dataset.landing
    if not landing.is_dated:
        return Arrival(file, None, None)
    match = name_pattern(landing.url).fullmatch(file.path)
    if match is None:
        raise FootpathError(f"{file.path} does not fit the name {landing.url}: give it another one")
    fields = {field: int(digits) for field, digits in match.groupdict().items()}
    try:
        if landing.origin:
            local = landing.origin + dt.timedelta(hours=fields["hours"])
        else:
            local = dt.datetime(**fields, tzinfo=ZoneInfo(landing.arrival_timezone))
    except (ValueError, OverflowError) as error:
        raise FootpathError(
            f"{file.path} has an impossible date in its name ({error}): rename it"
        ) from None
    zone = ZoneInfo(dataset.timezone)
    if fields.keys().isdisjoint(("hour", "hours")):
        day = local.date()
        return Arrival(file, day, day_window(day, dataset.timezone)[0])
    return Arrival(file, local.astimezone(zone).date(), local.astimezone(dt.UTC))


def _span(days: list[dt.date]) -> str:
    return str(days[0]) if len(days) == 1 else f"{min(days)} to {max(days)}"
