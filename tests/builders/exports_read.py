"""An independent reader of exports: Python's csv and json, pyarrow, datetime, decimal; no DuckDB.

It reads bytes, as Footpath does, and says of each row what event it is, or that it is refused.
"""

import csv
import datetime as dt
import gzip
import io
import json
import math
import re
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from tests.builders.exports import COLUMNS, Family

FIXED = {"Z": 0, "UTC": 0, "GMT": 0, "CET": 1}
TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?"
    r"(Z|[+-]\d\d:?\d\d|[+-]\d\d| [A-Za-z]+(?:/[A-Za-z_]+)?)?"
)
NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*")


class RefusedError(Exception):
    """A value that its declared type cannot hold."""


@dataclass(frozen=True)
class Event:
    """A row as it means."""

    event_id: str | None
    user_id: str | None
    timestamp: dt.datetime
    action: str | None
    item_id: str | None
    value: float | None
    properties: tuple[tuple[str, str], ...]


def unpacked(path: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """The files in an archive, decompressed, or the file itself."""
    if path.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield f"{path}/{name}", plain(name, archive.read(name))
    elif ".tar" in path:
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            for member in tar.getmembers():
                file = tar.extractfile(member)
                assert file
                yield f"{path}/{member.name}", plain(member.name, file.read())
    else:
        yield path, plain(path, content)


def plain(path: str, content: bytes) -> bytes:
    """Bytes decompressed by the suffix of a path."""
    if path.endswith(".gz"):
        return gzip.decompress(content)
    if path.endswith(".zst"):
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content)).read()
    return content


def read(family: Family, content: bytes) -> dict[int, Event | None]:
    """Line -> event, or none where the row is to be refused."""
    readers = {"csv": _csv_rows, "jsonl": _json_rows, "parquet": _parquet_rows}
    found: dict[int, Event | None] = {}
    for line, row in readers[family.format](family, content):
        try:
            found[line] = None if row is None else _event(family, row)
        except RefusedError:
            found[line] = None
    return found


def _csv_rows(family: Family, content: bytes) -> Iterator[tuple[int, dict[str, Any] | None]]:
    options = family.csv
    encoding = options.get("encoding", "utf-8")
    text = content.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    delimiter, quote = options.get("delimiter", ","), options.get("quote", '"')
    if options.get("escape") and not quote:
        records = list(_database_rows(text))
    elif options.get("escape"):
        records = list(_escaped_rows(text, delimiter, quote))
    else:
        lines = text.split("\n")
        skipped = options.get("skip", 0)
        body = [line + "\n" for line in lines[skipped:]]
        if options.get("comment"):  # the generator quotes what begins with it
            body = ["\n" if line.startswith(options["comment"]) else line for line in body]
        if len(delimiter) > 1:
            body = [line.replace(delimiter, "\x1f") for line in body]
            delimiter = "\x1f"
        reader = csv.reader(body, delimiter=delimiter, quotechar=quote)
        records, before = [], 0
        for cells in reader:
            records.append((before + 1 + skipped, cells))
            before = reader.line_num
    header = list(COLUMNS)
    if options.get("header", True) and records:
        header = records.pop(0)[1]
    for line, cells in records:
        if not cells:
            continue
        if len(cells) != len(header):
            yield line, None
            continue
        row = dict(zip(header, cells, strict=True))
        kept = {column: row[column] or None for column in COLUMNS}
        yield line, {k: None if v in family.nulls else v for k, v in kept.items()}


def _escaped_rows(text: str, delimiter: str, quote: str) -> Iterator[tuple[int, list[str | None]]]:
    """Quoted text with escapes, a character at a time."""
    line = first = 1
    cell, cells, is_inside = "", [], False
    signs = iter(text + "\n" * (not text.endswith("\n")))
    for sign in signs:
        line += sign == "\n"
        if sign == "\\":
            behind = next(signs)
            line += behind == "\n"
            is_text = behind in (delimiter, quote, "\\", "\n", "\r")
            cell += behind if is_text else sign + behind
        elif sign == quote:
            is_inside = not is_inside
        elif is_inside or sign not in (delimiter, "\n"):
            cell += sign
        else:
            cells.append(cell.removesuffix("\r") if sign == "\n" else cell)
            cell = ""
            if sign == "\n":
                yield first, [] if cells == [""] else cells
                cells, first = [], line


def _database_rows(text: str) -> Iterator[tuple[int, list[str | None]]]:
    """Tab-separated text with escapes, a character at a time."""
    line, first, cell, cells, raw = 1, 1, "", [], ""
    signs = iter(text)
    controls = {"t": "\t", "n": "\n", "r": "\r", "b": "\b"}
    for sign in signs:
        if sign == "\\":
            sign = next(signs, "")
            raw += "\\" + sign
            line += sign == "\n"
            cell += controls.get(sign, sign)
            continue
        if sign in "\t\n":
            bare = cell.removesuffix("\r") if sign == "\n" else cell
            cells.append(None if raw.rstrip("\r") == "\\N" else bare)
            cell = raw = ""
            if sign == "\n":
                line += 1
                if cells != [""]:
                    yield first, cells
                cells, first = [], line
            continue
        cell, raw = cell + sign, raw + sign
    if cell or cells or raw:
        cells.append(None if raw == "\\N" else cell)
        yield first, cells


def _json_rows(family: Family, content: bytes) -> Iterator[tuple[int, dict[str, Any] | None]]:
    text = content.decode()
    try:
        found = json.loads(text)
        objects = found if isinstance(found, list) else [found]
    except ValueError:
        objects = _objects_of(text)
    lines = objects if isinstance(objects, dict) else dict(enumerate(objects, 1))
    for line, row in lines.items():
        yield line, row if isinstance(row, dict) else None


def _objects_of(text: str) -> dict[int, Any]:
    """Objects a line by line, or one after the other over lines."""
    lines = {}
    is_pretty = text.startswith("{\n") or text.startswith("{\r")
    if is_pretty:
        decoder, place, number = json.JSONDecoder(), 0, 0
        while place < len(text):
            row, place = decoder.raw_decode(text, place)
            number += 1
            lines[number] = row
            while text[place : place + 1].isspace():
                place += 1
        return lines
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                lines[number] = json.loads(line)
            except ValueError:
                lines[number] = None
    return lines


def _parquet_rows(family: Family, content: bytes) -> Iterator[tuple[int, dict[str, Any] | None]]:
    table = pq.read_table(io.BytesIO(content))
    columns = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
        columns[name] = column.to_pylist()
        if pa.types.is_float32(table[name].type):
            # As text, a number of 32 bits is the shortest that is it.
            columns[name] = [v if v is None else _Float32(v) for v in columns[name]]
    for number in range(len(table)):
        yield number + 1, {name: values[number] for name, values in columns.items()}


class _Float32(float):
    pass


def _event(family: Family, row: dict[str, Any]) -> Event:
    # An empty id is none; an empty note is a text where the source can tell.
    texts = {key: _text(family, row.get(key)) for key in ("id", "user", "act", "item", "note")}
    for key in ("user", "item"):
        if isinstance(row.get(key), (dict, list)) or _is_nested(texts[key] or ""):
            raise RefusedError(key)
    price = _number(family, row.get("price"))
    whole = _whole(family, row.get("n"))
    properties = {"note": texts["note"], "n": None if whole is None else str(whole)}
    if family.format == "jsonl":
        properties |= _nested(family, row.get("p"))
    when = _instant(family, row.get("ts"))
    kept = tuple(sorted((k, v) for k, v in properties.items() if v is not None))
    return Event(
        texts["id"] or None,
        texts["user"] or None,
        when,
        texts["act"] or None,
        texts["item"] or None,
        price,
        kept,
    )


def _is_nested(text: str) -> bool:
    """Whether a text is a JSON object or array: no id."""
    try:
        return isinstance(json.loads(text), (dict, list))
    except ValueError:
        return False


def _nested(family: Family, value: Any) -> dict[str, str | None]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RefusedError("p")
    whole = _whole(family, value.get("v"))
    return {"k": _text(family, value.get("k")), "v": None if whole is None else str(whole)}


def _text(family: Family, value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, (float, Decimal)) and value == int(value):
        return str(int(value))
    if isinstance(value, _Float32):
        return str(pa.scalar(float(value), pa.float32()).cast(pa.string()))
    return None if str(value) in family.nulls else str(value)


def _number(family: Family, value: Any) -> float | None:
    if value is None or value == "" or value in family.nulls:
        return None
    if isinstance(value, bool):
        raise RefusedError(value)
    if isinstance(value, (int, float, Decimal)):
        number = float(value)
        if isinstance(value, int) and int(number) != value:
            raise RefusedError(value)
        return None if math.isnan(number) else number
    if family.csv.get("decimal") == ",":
        if "." in value or value.count(",") > 1:
            raise RefusedError(value)
        value = value.replace(",", ".")
    if not NUMBER.fullmatch(value):
        raise RefusedError(value)
    if re.fullmatch(r"[+-]?\d{16,}", value) and int(value) != int(float(value)):
        raise RefusedError(value)
    return float(value)


def _whole(family: Family, value: Any) -> int | None:
    if value is None or value == "" or value in family.nulls:
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, bool):
        raise RefusedError(value)
    text = str(value)
    if isinstance(value, (float, Decimal)):
        if value != int(value):
            raise RefusedError(value)
        number = int(value)
    else:
        if family.csv.get("decimal") == ",":
            text = text.replace(",", "x").replace(".", "x")
        match = re.fullmatch(r"\s*([+-]?\d+)(?:\.0*)?\s*", text)
        if not match:
            raise RefusedError(value)
        number = int(match[1])
    if not -(2**63) <= number < 2**63:
        raise RefusedError(value)
    return number


def _instant(family: Family, value: Any) -> dt.datetime:
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
    match = TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None or value in family.nulls:
        raise RefusedError(value)
    *parts, fraction, zone = match.groups()
    try:
        local = dt.datetime(*map(int, parts), int((fraction or "").ljust(6, "0")[:6]))
    except ValueError:
        raise RefusedError(value) from None
    word = (zone or "Z").strip()
    if word in FIXED:
        return local.replace(tzinfo=dt.UTC) - dt.timedelta(hours=FIXED[word])
    if "/" in word:
        return local.replace(tzinfo=ZoneInfo(word)).astimezone(dt.UTC)
    if word[0] in "+-":
        digits = word[1:].replace(":", "").ljust(4, "0")
        offset = dt.timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
        return local.replace(tzinfo=dt.UTC) - (offset if word[0] == "+" else -offset)
    raise RefusedError(value)
