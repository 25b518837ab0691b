"""A user's own file -> the draft of a data set's YAML, every guess with its reason.

In:  one event file, wherever it lies. Out: text that `load_dataset_file` takes, with a line that
begins with `# TODO` above everything that a person has to look at; `datasets check` lists them.
"""

import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from contracts.base.errors import FootpathError
from contracts.lake.engine import connect
from features.drafts.guess import Guess, Guesses, guess, sql_name
from features.drafts.sampling import Sample, find_file, take_sample
from features.ingestion.archives.member import split_pattern
from features.ingestion.listing import find_files
from features.ingestion.streams import SourceFile

TODO = "# TODO:"
WIDTH = 96

# Dates in paths, longest first. Each becomes the same text with fields for digits.
_DATES = (
    (r"(\d{4})([-_./]?)(\d{2})\2(\d{2})([-_/T]|/\w*=?)(\d{2})(?!\d)",
     "{year}%2{month}%2{day}%5{hour}"),
    (r"year=(\d{4})/month=(\d{2})/day=(\d{2})/hour=(\d{2})",
     "year={year}/month={month}/day={day}/hour={hour}"),
    (r"year=(\d{4})/month=(\d{2})/day=(\d{2})", "year={year}/month={month}/day={day}"),
    (r"(\d{4})([-_./]?)(\d{2})\2(\d{2})(?!\d)", "{year}%2{month}%2{day}"),
)  # fmt: skip


@dataclass(frozen=True)
class Draft:
    """A drafted YAML, and where its files were found."""

    text: str
    folder: str  # what --data takes
    rows: int  # that were looked at


def name_for(address: str) -> str:
    """A data set's name made from that of a file, or of the folder if that has no word."""
    parts = [part.split(".")[0].lower() for part in address.split("/")]
    word = next((part for part in reversed(parts) if re.search("[a-z]{2}", part)), "data")
    tidy = re.sub(r"[^a-z0-9]+", "-", word).strip("-")[:40].rstrip("-")
    return tidy if tidy[0].isalpha() else f"data-{tidy}"[:40]


def draft(address: str, name: str) -> Draft:
    """Drafts the YAML of a data set from the beginning of one of its files.

    Args:
      address: path or URL of a file; a tar archive means its first member.
      name: of the data set.

    Raises:
      FootpathError: the file is not there, is empty, or is no table.
    """
    file = find_file(address)
    folder, url = parted(file)
    with tempfile.TemporaryDirectory(prefix="footpath-") as scratch, connect() as connection:
        sample = take_sample(connection, file, Path(scratch))
        if not sample.rows:
            raise FootpathError(f"{file.path} has a header and no rows: init needs some")
        guesses = guess(connection, sample)
    return Draft("\n".join(_lines(name, folder, url, sample, guesses)) + "\n", folder, sample.rows)


def parted(file: SourceFile) -> tuple[str, str]:
    """Parts a file's address into the source folder and landing.url, with fields for its date.

    The folder is the one above the date, or above the archive or file where there is none.
    """
    outside, inside = split_pattern(file.path)
    parts = outside.split("/")
    below = [inside] if inside else []
    for keep in range(1, len(parts)):
        if url := with_date("/".join([*parts[-keep:], *below])):
            return "/".join(parts[:-keep]) or "/", url
    return "/".join(parts[:-1]) or "/", "/".join([parts[-1], *below])


def with_date(path: str) -> str | None:
    """A path with {year}, {month}, {day}, {hour} for its date; None if it has none."""
    for pattern, fields in _DATES:
        if not (match := re.search(pattern, path)):
            continue
        digits = [int(group) for group in match.groups() if group and group.isdigit()]
        if not (1990 <= digits[0] <= 2100 and 1 <= digits[1] <= 12 and 1 <= digits[2] <= 31):
            continue
        if len(digits) > 3 and digits[3] > 23:
            continue
        filled = re.sub(r"%(\d)", lambda group: match[int(group[1])], fields)
        return path[: match.start()] + filled + path[match.end() :]
    return None


def _lines(name: str, folder: str, url: str, sample: Sample, guesses: Guesses) -> list[str]:
    fields, (first, last) = guesses.fields, guesses.days
    whole = f"all {sample.rows:,} rows" if sample.is_whole else f"the first {sample.rows:,} rows"
    dated = "{year}" in url
    others = _others(folder, url)
    seen = PurePosixPath(sample.file.path).name
    lines = [
        f"# Drafted by `footpath datasets init` from {whole} of {seen}.",
        "# Look at each guess; delete its TODO line when it is right.",
        f"name: {name}",
        f"title: {_scalar(name.replace('-', ' ').capitalize())}",
        f"{TODO} a day is a local day of this zone: name the one that your business lives in.",
        "timezone: UTC",
        "partitions:",
    ]
    if not sample.is_whole or dated:
        lines += [f"  {TODO} the sample begins on {first}: if other rows are older, say so here."]
    lines += [f"  start: {first}"]
    if dated:
        lines += ["  # No end: the source goes on. A source that has ended says `end: DAY`."]
    else:
        if not sample.is_whole:
            lines += [f"  {TODO} the sample ends on {last}; uncomment with the last day of all."]
        lines += [f"  {'' if sample.is_whole else '# '}end: {last}"]
    lines += ["", "landing:"]
    if others:
        lines += [f"  {TODO} {others}"]
    lines += [f"  url: {_scalar(url)}", f"  format: {sample.format}"]
    lines += _csv_lines(sample)
    lines += ["  columns:"]
    lines += [f"    {_scalar(column.name)}: {_scalar(column.kind)}" for column in guesses.columns]
    sparse = [c.name for c in guesses.columns if c.filled < sample.rows]
    if sparse and sample.format == "jsonl":
        lines += ["  # Some rows lack them, so a whole file may."]
        lines += [f"  optional: [{', '.join(map(_scalar, sparse))}]"]
    lines += ["", "events:"]
    order = ("event_id", "user_id", "timestamp", "action", "item_id", "value", "session_id")
    for field in order:
        lines += _field_lines(field, fields.get(field))
    lines += _property_lines(sample, guesses)
    lines += _action_lines(guesses)
    return lines + _REST


def _others(folder: str, url: str) -> str:
    """Tells of files of the same kind that lie beside one whose name has no date."""
    if "{year}" in url:
        return ""
    above, _, last = url.rpartition("/")
    pattern = "/".join([*([above] if above else []), "*" + "".join(PurePosixPath(last).suffixes)])
    found = len(find_files(folder, pattern))
    return f"{found - 1:,} more files match `{pattern}`: are they part of it?" if found > 1 else ""


def _csv_lines(sample: Sample) -> list[str]:
    if sample.csv is None:
        return []
    default = type(sample.csv)()
    odd = {
        key: value
        for key, value in sample.csv.model_dump().items()
        if value != getattr(default, key)
    }
    lines = []
    if sample.csv.encoding != "utf-8":
        lines += ["  # It is not UTF-8; every file can be read as Latin-1, not every one is."]
    if odd:
        pairs = ", ".join(f"{key}: {json.dumps(value)}" for key, value in odd.items())
        lines += [f"  csv: {{{pairs}}}"]
    if not sample.csv.header:
        lines += [f"  {TODO} there is no header: call the columns c1, c2, ... what they are."]
    return lines


def _field_lines(field: str, found: Guess | None) -> list[str]:
    if found is None:
        without = {
            "event_id": "  # event_id: no column is there once a row: content is the identity.",
            "item_id": "  # item_id: no column looks like one.",
        }
        return [without[field]] if field in without else []
    lines = [f"  # {found.why}."]
    if found.doubt:
        lines += [f"  {TODO} {found.doubt}{'' if found.doubt.endswith('?') else '.'}"]
    return [*lines, f"  {field}: {_scalar(found.sql)}"]


def _property_lines(sample: Sample, guesses: Guesses) -> list[str]:
    """Keeps what no field took, where it has few values: it may tell events apart."""
    taken = {found.column for found in guesses.fields.values()}
    kept: dict[str, str] = {}
    for column in guesses.columns:
        key = re.sub(r"\W+", "_", column.name.lower()).strip("_")[:40]
        few = 1 < column.distinct <= max(1000, sample.rows // 10)
        if column.name not in taken and few and re.match(r"[a-z]", key) and key not in kept:
            kept[key] = sql_name(column.name)
    if not kept or len(kept) > 30:
        return []
    return [
        "  # What else the rows say. Leave out what no one will ask for.",
        "  properties:",
        *[f"    {key}: {_scalar(sql)}" for key, sql in kept.items()],
    ]


def _action_lines(guesses: Guesses) -> list[str]:
    lines = []
    if guesses.fields["action"].column:
        lines += [f"{TODO} these are in the sample: add those that are not. Others are refused."]
    text = ", ".join(map(_scalar, guesses.actions))
    if len(text) + 11 <= WIDTH:
        return [*lines, f"actions: [{text}]"]
    return [*lines, "actions:", *[f"  - {_scalar(action)}" for action in guesses.actions]]


_REST = [
    "",
    "# Next, if you have them: `items:` and `users:` (files of their own, or these ones),",
    "# `features.categories`, and `tasks:` to predict. docs/your-data.md shows each.",
]


def _scalar(value: str) -> str:
    """Returns text as YAML: bare where it reads back as itself, else quoted."""
    try:
        bare = yaml.safe_load(f"k: {value}") == {"k": value}
    except yaml.YAMLError:
        bare = False
    # Inside [..] and {..} commas and brackets part values.
    return (
        value
        if bare and not re.search(r"[,\[\]{}]", value)
        else json.dumps(value, ensure_ascii=False)
    )
