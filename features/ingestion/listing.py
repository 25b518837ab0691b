"""Which source files there are, and on which day each arrived.

In:  a data set's URL with date fields, with {hours} since an origin or {epoch_ms}, or a plain glob,
below its source folder or URL; its files may be members of archives. Out: the files of some arrival
days, or all of them, each with what shows that it has changed. One that cannot be read, such as a
broken archive, is listed with its fault, so that it costs itself alone.

An arrival day is the local day of the data set that the hour in the file's name falls in; without
an hour, the date in the name itself.
"""

import datetime as dt
import errno
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from contracts.base.clock import day_window, days_between
from contracts.base.errors import FootpathError
from contracts.base.text import without_userinfo
from contracts.config.dataset import Dataset
from contracts.config.sources import source_folder
from contracts.lake.reading import side_by_side
from contracts.lake.remote import check_bucket, told
from features.ingestion.archives import members
from features.ingestion.archives.member import split_pattern
from features.ingestion.streams import SourceFile

# Date field of a URL -> how many digits it has.
FIELDS = {"year": 4, "month": 2, "day": 2, "hour": 2, "hours": 9, "epoch_s": 10, "epoch_ms": 13}
# Those that may have fewer: some sources write the hours 0 to 9 with one.
_AT_LEAST_ONE = ("hour", "hours")
# Wildcard -> regular expression, as `pathlib` globs them.
_WILD = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True)
class Arrival:
    """A landing file, and when it came; None where the source is not dated."""

    file: SourceFile
    day: dt.date | None
    instant: dt.datetime | None  # UTC


def arrival_days(dataset: Dataset) -> list[dt.date]:
    """The days on which files have arrived, in order; none for an undated source."""
    if not dataset.landing.is_dated:
        return []
    return sorted({arrival.day for arrival in find_arrivals(dataset, None) if arrival.day})


def find_arrivals(
    dataset: Dataset, days: list[dt.date] | None, folder: str | None = None
) -> list[Arrival]:
    """Finds the landing files of some arrival days, in order of path.

    Args:
      dataset: gives the folder and the names of landing files.
      days: arrival days; None for all. An undated source has all its files on no day.
      folder: where the files lie; by default the data set's source folder.

    Raises:
      FootpathError: no file is there at all.
    """
    landing = dataset.landing
    folder = folder or root_of(dataset, landing.url)
    is_cut = days is not None and landing.is_dated
    dates = _dates(dataset, days) if is_cut and "{day}" in landing.url else [{}]
    # In a store, each pattern is a request or more.
    globs = [_glob(landing.url, date) for date in dates]
    found = side_by_side(lambda pattern: find_files(folder, pattern), globs)
    files = {file.path: file for of_pattern in found for file in of_pattern}
    if any(f"{{{field}}}" in landing.url for field in _AT_LEAST_ONE):
        # As a glob, they match more than digits: what does not fit is left out here.
        fits = name_pattern(landing.url).fullmatch
        files = {path: file for path, file in files.items() if fits(path) or file.fault}
    arrivals = [_arrival(dataset, file) for _, file in sorted(files.items())]
    if is_cut:
        # Of what has no day, because its name or its archive cannot be read, any may be the day.
        wanted = {*(days or ()), None}
        arrivals = [arrival for arrival in arrivals if arrival.day in wanted]
    # Days without a file are fine where the source has such days, and has files at all.
    may_be_none = is_cut and dataset.quality.allow_empty_days
    if not arrivals and not (may_be_none and find_files(folder, _glob(landing.url, {}))):
        when = ""
        if is_cut and days:
            when = f" for {' to '.join(map(str, sorted({min(days), max(days)})))}"
        raise FootpathError(
            f"data set '{dataset.name}' has no landing file{when}: "
            f"looked for {landing.url} under {folder or 'its absolute address'}"
        )
    return arrivals


def root_of(dataset: Dataset, url: str) -> str:
    """Folder or URL that a pattern of the YAML is relative to; empty for an absolute one."""
    return "" if is_absolute(url) else source_folder(dataset.name)


def is_absolute(pattern: str) -> bool:
    """Whether a pattern has its own root."""
    return "://" in pattern or Path(pattern).is_absolute()


def _dates(dataset: Dataset, days: list[dt.date]) -> list[dict[str, str]]:
    """The dates that may stand in the names of files that arrive on local days."""
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
    """The URL with some date fields filled in and the others open."""
    for field, digits in FIELDS.items():
        open_field = "[0-9]*" if field in _AT_LEAST_ONE else "[0-9]" * digits
        url = url.replace(f"{{{field}}}", values.get(field, open_field))
    return url.replace("[0-9]**", "[0-9]*")  # before a wildcard: two stars are folders


def _arrival(dataset: Dataset, file: SourceFile) -> Arrival:
    """Reads the arrival out of a file's name; of one with a fault, as far as it goes."""
    landing = dataset.landing
    if not landing.is_dated:
        return Arrival(file, None, None)
    match = name_pattern(landing.url).fullmatch(file.path)
    if match is None and file.fault:
        match = name_pattern(split_pattern(landing.url)[0]).fullmatch(file.path)
    fields = {field: int(digits) for field, digits in match.groupdict().items()} if match else {}
    if fields.keys().isdisjoint(("day", *landing.COUNTS)):
        fault = f"{file.path} does not fit the name {landing.url}: give it another one"
        return Arrival(replace(file, fault=file.fault or fault), None, None)
    try:
        if landing.origin:
            local = landing.origin + dt.timedelta(hours=fields["hours"])
        elif "day" in fields:
            local = dt.datetime(**fields, tzinfo=ZoneInfo(landing.arrival_timezone))
        else:
            milliseconds = fields.get("epoch_ms", fields.get("epoch_s", 0) * 1000)
            local = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(milliseconds=milliseconds)
        day = local.astimezone(ZoneInfo(dataset.timezone)).date()
    except (ValueError, OverflowError) as error:
        fault = f"{file.path} has an impossible date in its name ({error}): rename it"
        return Arrival(replace(file, fault=file.fault or fault), None, None)
    if fields.keys().isdisjoint(("hour", *landing.COUNTS)):
        return Arrival(file, local.date(), day_window(local.date(), dataset.timezone)[0])
    return Arrival(file, day, local.astimezone(dt.UTC))


def name_pattern(name: str) -> re.Pattern[str]:
    """Compiles a name with date fields and wildcards; the fields are groups of digits."""
    known: set[str] = set()
    pattern = ""
    for part in re.split(r"({\w+}|\*\*/|\*\*|\*|\?|\[[^\]]+\])", name):
        field = part.strip("{}")
        if field in FIELDS and part != field:
            digits = rf"\d{{{'1,' if field in _AT_LEAST_ONE else ''}{FIELDS[field]}}}"
            pattern += f"(?P={field})" if field in known else f"(?P<{field}>{digits})"
            known.add(field)
        elif part.startswith("[") and part.endswith("]"):
            pattern += f"[^{part[2:]}" if part.startswith("[!") else part
        else:
            pattern += _WILD.get(part, re.escape(part))
    return re.compile(pattern, re.DOTALL)


def find_files(folder: str, pattern: str) -> list[SourceFile]:
    """Finds the files below folder that match a glob pattern, in order of path.

    Args:
      folder: a local folder or an fsspec URL.
      pattern: relative to the folder; or an absolute path or URL, and then folder is not used.
        Behind a part that ends as an archive does, it goes on with the archive's members.

    Returns:
      The files; one with a fault, such as an archive that is broken, in the place of what is in it.

    Raises:
      FootpathError: the folder is not there or cannot be listed.
    """
    if is_absolute(pattern):
        folder, pattern = "", pattern.removeprefix("file://")
    folder = folder.removeprefix("file://")
    without_userinfo(folder or pattern, "the address of source files")
    finder = _find_remote if "://" in (folder or pattern) else _find_local
    pattern, inside = split_pattern(pattern)
    found = finder(folder, pattern)
    if inside:
        found = (member for archive in found for member in _find_members(archive, inside))
    return sorted(map(_checked, found), key=lambda file: file.path)


def _checked(file: SourceFile) -> SourceFile:
    """A file whose name can be written into a table; one of another name has a fault."""
    try:
        file.path.encode()
    except UnicodeEncodeError:
        shown = file.path.encode(errors="backslashreplace").decode()
        return replace(file, path=shown, fault=f"{shown} has a name that is not UTF-8: rename it")
    return file


def _find_members(archive: SourceFile, inside: str) -> Iterator[SourceFile]:
    """Finds the members of an archive that match a pattern; of a broken one, itself."""
    archive = _checked(archive)
    if archive.fault:
        yield archive
        return
    stamp = f"{archive.stamp}-{archive.size}" if archive.stamp else ""
    matches = name_pattern(inside).fullmatch
    try:
        found = members(archive.path, archive.url, stamp)
    except FootpathError as error:
        yield replace(archive, fault=str(error))
        return
    for member in found:
        if matches(member.name):
            path = f"{archive.path}/{member.name}"
            fault = f"{path} {member.flaw}" if member.flaw else ""
            place = (archive.path, member.offset)
            yield SourceFile(path, archive.url, member.size, stamp, *place, fault)


def _find_local(folder: str, pattern: str) -> Iterator[SourceFile]:
    root = Path(folder or Path(pattern).anchor)
    if not root.is_dir():
        raise FootpathError(f"the source folder {root} is not there: link the data set again")
    for path in root.glob(pattern.removeprefix(str(root)) if not folder else pattern):
        known_as = str(path.relative_to(root) if folder else path)
        try:
            status = path.stat()
        except OSError as error:
            # It went between the listing and here, or is a link to nowhere: then it was not found.
            if error.errno not in (errno.ENOENT, errno.ELOOP):
                fault = f"{path} cannot be read: {error.strerror}: check the file and its rights"
                yield SourceFile(known_as, str(path), 0, "", fault=fault)
            continue
        if stat.S_ISREG(status.st_mode):
            yield SourceFile(known_as, str(path), status.st_size, str(status.st_mtime_ns))


def _find_remote(folder: str, pattern: str) -> Iterator[SourceFile]:
    import fsspec

    where = folder or pattern
    try:
        with told(where):
            system, root = fsspec.core.url_to_fs(where)
            system.invalidate_cache()  # a long-lived process would see yesterday's listing
            root = root.rstrip("/")
            found = system.glob(f"{root}/{pattern}" if folder else root, detail=True)
            if not found:
                check_bucket(system, where)
    except (OSError, ImportError, ValueError) as error:
        raise FootpathError(
            f"{where} cannot be listed ({error}): "
            f"check the address and the credentials in the environment"
        ) from None
    for name, info in found.items():
        if info["type"] == "file":
            url = system.unstrip_protocol(name)
            path = name[len(root) :].lstrip("/") if folder else url
            yield SourceFile(path, url, info["size"] or 0, _stamp(info))


def _stamp(info: dict[str, Any]) -> str:
    known = ("ETag", "etag", "md5", "LastModified", "mtime", "updated", "last_modified", "created")
    return next((str(info[key]).strip('"') for key in known if info.get(key)), "")
