"""From the path of one file to the source folder and `landing.url`, which finds all of its kind.

In:  a file's address and the times of its rows. Out: an `Address`: a folder, a pattern with fields
for date, hour or epoch, how many files it finds, and which beside them it does not.

A number in a name is a date only where it is one, and an hour only where the files' hours differ or
the rows say so: the number of a shard is none.
"""

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from glob import escape
from pathlib import Path

from contracts.base.errors import FootpathError
from features.ingestion.archives.member import split_pattern
from features.ingestion.listing import FIELDS, find_files, name_pattern
from features.ingestion.streams import SourceFile

_DATES = (
    r"year=(?P<year>\d{4})/month=(?P<month>\d{2})/day=(?P<day>\d{2})(?:/hour=(?P<hour>\d{2}))?",
    r"(?<!\d)(?P<year>\d{4})(?P<s>[-_./]?)(?P<month>\d{2})(?P=s)(?P<day>\d{2})"
    r"(?:(?:[-_T /]|/[A-Za-z]\w*=?)(?P<hour>\d{1,2})(?!\d))?(?!\d)",
)
_EPOCH = re.compile(
    r"(?<![\d.])(?:(?P<epoch_ms>1[0-9]\d{11})|(?P<epoch_s>1[0-9]\d{8}))(?![\d.]*\d)"
)
# A run of numbers with signs between them.
_NUMBERS = re.compile(r"\d+(?:[^A-Za-z/*{}\[\]]*\d+)*")

# Folders without anything else in them that are taken into the pattern.
MOST_FOLDERS = 2


@dataclass(frozen=True)
class Address:
    """Where files of one kind lie."""

    folder: str  # what --data takes
    url: str
    found: int = 1  # files that the URL finds
    others: list[str] = field(default_factory=list)  # files beside them that it does not

    @property
    def is_dated(self) -> bool:
        """Whether the URL gives the day of arrival."""
        return bool(re.search(r"{(day|epoch_ms|epoch_s)}", self.url))


@dataclass(frozen=True)
class Span:
    """First and last time of a file's rows, UTC."""

    first: dt.datetime
    last: dt.datetime


def address_of(file: SourceFile, span: Span | None = None) -> Address:
    """Finds the pattern of a file's address that finds the most files of its kind.

    Args:
      file: one of them.
      span: of the times of its rows, if they have any.
    """
    best = max(_candidates(file, span), key=lambda address: address.found)
    return _climbed(best) if best.url != _last(file) else best


def _last(file: SourceFile) -> str:
    outside, inside = split_pattern(file.path)
    return escape("/".join([outside.split("/")[-1], *([inside] if inside else [])]))


def _candidates(file: SourceFile, span: Span | None) -> Iterator[Address]:
    """Yields patterns, the closest to the file's own name first."""
    outside, inside = split_pattern(file.path)
    parts = outside.split("/")
    below = [inside] if inside else []
    for keep in range(1, min(len(parts), 9)):
        folder = "/".join(parts[:-keep]) or "/"
        path = "/".join([*parts[-keep:], *below])
        head = len(parts[-keep])
        for match in _date_matches(path, span):
            # One that begins further down was found with fewer folders.
            if match.start() <= head or keep == 1:
                yield from _patterns(folder, path, match, span)
    folder, path = "/".join(parts[:-1]) or "/", "/".join([parts[-1], *below])
    yield from _generalized(Address(folder, escape(path)), 0)


def _date_matches(path: str, span: Span | None) -> Iterator[re.Match[str]]:
    for pattern in _DATES:
        if match := re.search(pattern, path):
            year, month, day = (int(match[part]) for part in ("year", "month", "day"))
            if 1990 <= year <= 2100 and 1 <= month <= 12 and 1 <= day <= 31:
                yield match
                return
    if span is None:
        return
    for match in _EPOCH.finditer(path):
        seconds = int(match["epoch_s"] or match["epoch_ms"]) / (1 if match["epoch_s"] else 1000)
        at = dt.datetime.fromtimestamp(seconds, dt.UTC)
        if span.first - dt.timedelta(days=3) <= at <= span.last + dt.timedelta(days=3):
            yield match
            return


def _patterns(folder: str, path: str, match: re.Match[str], span: Span | None) -> Iterator[Address]:
    """Yields patterns of a path with a date: with its hour if it is one, and without."""
    places = {
        part: match.span(part)
        for part, digits in match.groupdict().items()
        if part in FIELDS and digits is not None
    }
    with_hour = _filled(path, places)
    if "hour" in places:
        address = Address(folder, with_hour)
        hours = _hours(address)
        named = int(match["hour"])
        if named <= 23 and _is_hour(named, hours, span):
            yield from _generalized(address, with_hour.rindex("}") + 1)
        places.pop("hour")
        without = _filled(path, places)
        cut = without.rindex("}") + 1
        # The digits of no hour are any digits of the rest.
        yield from _generalized(Address(folder, without), cut)
        return
    yield from _generalized(Address(folder, with_hour), with_hour.rindex("}") + 1)


def _filled(path: str, places: dict[str, tuple[int, int]]) -> str:
    """The path as a pattern, with fields in the place of digits."""
    text, at = "", 0
    for part, (start, end) in sorted(places.items(), key=lambda item: item[1]):
        text += escape(path[at:start]) + f"{{{part}}}"
        at = end
    return text + escape(path[at:])


def _hours(address: Address) -> set[int]:
    """The numbers that stand for the hour in all files of the pattern, generalized."""
    cut = address.url.rindex("}") + 1
    pattern = address.url[:cut] + _starred(address.url[cut:])
    found = set()
    for file in _found(address.folder, pattern):
        if match := name_pattern(pattern).fullmatch(file.path):
            found.add(int(match["hour"]))
    return found


def _is_hour(named: int, hours: set[int], span: Span | None) -> bool:
    if span is None:
        return all(hour <= 23 for hour in hours)
    if any(hour > 23 for hour in hours) or span.last - span.first > dt.timedelta(hours=6):
        return False
    near = {(time.hour + step) % 24 for time in (span.first, span.last) for step in (-1, 0, 1)}
    return named in near or len(hours) > 2


def _starred(rest: str) -> str:
    return _NUMBERS.sub("*", rest)


def _generalized(address: Address, cut: int) -> Iterator[Address]:
    """Yields a pattern as it is, and with any numbers behind a place; then counts the others."""
    head, rest = address.url[:cut], address.url[cut:]
    starred = _starred(rest)
    suffix = "".join(re.findall(r"\.[A-Za-z]\w*", rest.rsplit("/", 1)[-1]))
    any_name = f"{rest.rsplit('/', 1)[0]}/*{suffix}" if "/" in rest else f"*{suffix}"
    around = {file.path for file in _found(address.folder, head + _starred(any_name))}
    # Where files go on arriving, a number of a shard may be any one from tomorrow on.
    urls = [head + starred, head + rest] if address.is_dated else [head + rest, head + starred]
    for url in dict.fromkeys(urls):
        paths = {file.path for file in _found(address.folder, url)}
        yield replace(address, url=url, found=len(paths), others=sorted(around - paths))


def _found(folder: str, url: str) -> list[SourceFile]:
    """The files of a pattern with fields; none where the folder cannot be listed."""
    pattern = url
    for part in FIELDS:
        pattern = pattern.replace(f"{{{part}}}", "[0-9]*")
    pattern = re.sub(r"\*{2,}", "*", pattern)
    matches = name_pattern(url).fullmatch
    try:
        return [file for file in find_files(folder, pattern) if matches(file.path)]
    except FootpathError:
        return []


def _climbed(address: Address) -> Address:
    """Takes folders that hold nothing else into the pattern: exports put all below an id."""
    for _ in range(MOST_FOLDERS):
        parent = Path(address.folder)
        if "://" in address.folder or parent == Path(parent.anchor):
            return address
        try:
            inside = [path.name for path in parent.parent.iterdir()]
        except OSError:
            return address
        if inside != [parent.name]:
            return address
        address = replace(
            address,
            folder=str(parent.parent),
            url=f"{escape(parent.name)}/{address.url}",
            others=[f"{parent.name}/{path}" for path in address.others],
        )
    return address
