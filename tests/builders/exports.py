"""Exports of made-up tools: files of many dialects, types, zones, encodings and orders, by a seed.

Each family is what one YAML declares; its files differ in all else. Rows are as often wrong as
those of real exports, or more.
"""

import contextlib
import datetime as dt
import gzip
import io
import json
import random
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

COLUMNS = ("id", "user", "ts", "act", "item", "price", "n", "note")
START = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
ZONES = (
    "",
    "Z",
    "+00:00",
    "+02:00",
    "-0530",
    " UTC",
    " Europe/Berlin",
    " America/New_York",
    " CET",
)
BAD_ZONES = (" PDT", " CEST", " BST", " PM", " XYZ")
NUMBERS = ("0", "12", "-7", "1.5", "0.1", "1e3", "-2.50", "123456.789", "9007199254740992", "12.0")
BAD_NUMBERS = ("x", "1_2", "0x1F", "9007199254740993", "1,5,0", "--1")
WHOLE = ("0", "12", "-7", "12.0", " 12", "+5", "007", "9223372036854775807")
BAD_WHOLE = ("3.7", "1_2", "1e1", "0x1F", "9223372036854775808", "n", "12.000000001")
SIGNS = "ab 09-_.;,|:#\"\\'\t\n{}[]<>&%$éüßñ€日本😀ǅ"


@dataclass(frozen=True)
class Family:
    """What the files of one landing have in common."""

    name: str
    format: str
    csv: dict[str, Any] = field(default_factory=dict)
    container: str = ""  # of several files: .zip, .tar, .tar.gz
    nulls: tuple[str, ...] = ()


FAMILIES = (
    Family("comma", "csv"),
    Family("semicolon", "csv", {"delimiter": ";", "decimal": ",", "encoding": "cp1252"}),
    Family("wide", "csv", {"delimiter": "\t", "encoding": "utf-16"}),
    Family("spark", "csv", {"escape": "\\"}, nulls=("\\N", "NULL")),
    Family("database", "csv", {"escape": "\\", "quote": "", "delimiter": "\t", "header": False}),
    Family("several", "csv", {"delimiter": "::", "comment": "#", "skip": 2}),
    Family("json", "jsonl", nulls=("undefined",)),
    Family("parquet", "parquet"),
    Family("zipped csv", "csv", {"quote": "'"}, ".zip"),
    Family("tarred json", "jsonl", {}, ".tar.gz"),
    Family("zipped parquet", "parquet", {}, ".zip"),
)


class Maker:
    """Makes the files of a family.

    Args:
      family: what they have in common.
      seed: of all that is random.
    """

    def __init__(self, family: Family, seed: int) -> None:
        self.family = family
        self.random = random.Random(f"{family.name} {seed}")
        self._ids = 0
        self._order = 0  # of the columns

    def files(self, count: int) -> dict[str, bytes]:
        """Some files by path, those of containers packed."""
        made = {}
        for number in range(count):
            self._order = number % 5
            path = f"{self._order}/{self.random.choice('ab')}/part-{number}"
            made[path] = self._file()
        found = {path + suffix: content for path, (content, suffix) in made.items()}
        if not self.family.container:
            return found
        packed: dict[str, bytes] = {}
        items = list(found.items())
        for start in range(0, len(items), 20):
            name = f"pack-{start}{self.family.container}"
            packed[name] = pack(self.family.container, dict(items[start : start + 20]))
        return packed

    def _file(self) -> tuple[bytes, str]:
        pick = self.random
        rows = [self._row() for _ in range(pick.choice((0, 1, 3, 8, 30)))]
        writers: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
            "csv": self._csv,
            "jsonl": self._json,
            "parquet": self._parquet,
        }
        content, suffix = writers[self.family.format](rows), f".{self.family.format}"
        kind = pick.choice(("", "", ".gz", ".zst"))
        if kind == ".gz":
            half = len(content) // 2  # as `cat a.gz b.gz` makes it
            content = gzip.compress(content[:half], 1) + gzip.compress(content[half:], 1)
        elif kind == ".zst":
            content = zstandard.compress(content)
        return content, suffix + kind

    def _row(self) -> dict[str, Any]:
        pick = self.random
        self._ids += 1
        known = pick.random() < 0.1
        bad = pick.random() < 0.15
        return {
            "id": pick.choice((str(pick.randrange(self._ids)), None)) if known else str(self._ids),
            "user": pick.choice(("u1", "u2", "17850", "017", "日本", "o'neil", None, self._text())),
            "ts": self._time(),
            "act": pick.choice(("view", "buy", "add to cart", None)),
            "item": pick.choice(("i1", "1.0", "1", None, self._text())),
            "price": pick.choice(BAD_NUMBERS) if bad and pick.random() < 0.3 else
            pick.choice((*NUMBERS, None)),
            "n": pick.choice(BAD_WHOLE) if bad and pick.random() < 0.3 else
            pick.choice((*WHOLE, None)),
            "note": pick.choice((None, self._text(), self._text())),
        }  # fmt: skip

    def _text(self) -> str:
        return "".join(self.random.choice(SIGNS) for _ in range(self.random.randrange(8)))

    def _time(self) -> str | None:
        pick = self.random
        if pick.random() < 0.05:
            return pick.choice((None, "soon", "2026-13-01", "0", "2026-01-05 25:00:00", "infinity"))
        instant = START + dt.timedelta(seconds=pick.randrange(0, 3 * 86400, 900))
        micros = pick.choice(("", "", ".5", ".123", ".123456"))
        zone = pick.choice(BAD_ZONES) if pick.random() < 0.05 else pick.choice(ZONES)
        return f"{instant:%Y-%m-%d}{pick.choice('T ')}{instant:%H:%M:%S}{micros}{zone}"

    def _csv(self, rows: list[dict[str, Any]]) -> bytes:
        pick, csv = self.random, self.family.csv
        delimiter, quote = csv.get("delimiter", ","), csv.get("quote", '"')
        columns = [*COLUMNS, "extra"]
        if csv.get("header", True):
            # Of one order for some files: each order is a query of its own.
            random.Random(f"{self._order}").shuffle(columns)
        else:
            columns.remove("extra")
        end = pick.choice(("\n", "\r\n"))
        lines = ["about", "this"][: csv.get("skip", 0)]
        if csv.get("header", True):
            lines.append(delimiter.join(columns))
        for row in rows:
            cells = [
                self._cell(row.get(column, "x"), column, delimiter, quote) for column in columns
            ]
            if pick.random() < 0.02:
                cells.append("one more")
            lines.append(delimiter.join(cells))
            if pick.random() < 0.02:
                lines.append(pick.choice(["", "# a 'comment\"" if "comment" in csv else ""]))
        text = end.join(lines) + (end if pick.random() < 0.8 else "")
        encoding = csv.get("encoding", "utf-8")
        content = text.encode(encoding, "replace")
        if encoding == "utf-8" and pick.random() < 0.2:
            content = b"\xef\xbb\xbf" + content
        return content

    def _cell(self, value: Any, column: str, delimiter: str, quote: str) -> str:
        pick, escape = self.random, self.family.csv.get("escape")
        if value is None:
            return "\\N" if escape else ""
        text = str(value)
        if "comment" in self.family.csv:
            text = text.replace("#", "%")  # behind a line end it would begin a comment
        if self.family.csv.get("decimal") == "," and column == "price":
            text = text.replace(".", ",")
        if escape and not quote:
            signs = {"\\": "\\\\", "\t": pick.choice(("\\t", "\\\t")), "\r": "\\r"}
            signs["\n"] = pick.choice(("\\n", "\\\n"))
            return "".join(signs.get(sign, sign) for sign in text)
        if delimiter == "::" and column != "ts":
            text = text.replace(":", ";")  # three colons would read either way
        if escape:
            return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        special = any(sign in text for sign in (delimiter, quote, "\n", "\r", "#"))
        if special or pick.random() < 0.3:
            return quote + text.replace(quote, quote * 2) + quote
        return text

    def _json(self, rows: list[dict[str, Any]]) -> bytes:
        pick = self.random
        found = []
        for row in rows:
            made = {key: value for key, value in row.items() if pick.random() > 0.1 or value}
            for key in ("price", "n", "user", "id", "item"):
                value = made.get(key)
                if isinstance(value, str) and pick.random() < 0.4:
                    with contextlib.suppress(ValueError):
                        made[key] = json.loads(value)
            made["p"] = {"k": self._text(), "v": made.get("n")} if pick.random() < 0.7 else None
            if pick.random() < 0.05:
                made["p"] = pick.choice(([1], "text", 5))
            made["extra"] = {"deep": [self._text(), {"x": [1.5, None]}]}
            keys = list(made)
            pick.shuffle(keys)
            found.append({key: made[key] for key in keys})
        ascii = {"ensure_ascii": pick.random() < 0.5}
        texts = [json.dumps(row, **ascii) for row in found]
        layout = pick.choice(("lines", "lines", "array", "pretty", "pretty array", "a row a line"))
        if layout == "lines":
            texts = [text if pick.random() > 0.02 else text[: len(text) // 2] for text in texts]
            return "".join(
                f"{text}{pick.choice((chr(10), chr(13) + chr(10)))}" for text in texts
            ).encode()
        if layout == "array":
            return json.dumps(found, **ascii).encode()
        if layout == "pretty":
            return "\n".join(json.dumps(row, indent=2, **ascii) for row in found).encode()
        if layout == "pretty array":
            return json.dumps(found, indent=pick.choice((0, 4)), **ascii).encode()
        return ("[" + ",\r\n".join(texts) + "]").encode()

    def _parquet(self, rows: list[dict[str, Any]]) -> bytes:
        pick = self.random
        columns = {}
        for column in COLUMNS:
            values = [row[column] for row in rows]
            columns[column] = self._typed(column, values)
        order = list(columns)
        pick.shuffle(order)
        buffer = io.BytesIO()
        table = pa.table({column: columns[column] for column in order})
        pq.write_table(
            table,
            buffer,
            row_group_size=pick.choice((2, 1000)),
            compression=pick.choice(("zstd", "snappy", "none")),
            use_dictionary=pick.random() < 0.5,
        )
        return buffer.getvalue()

    def _typed(self, column: str, values: list[Any]) -> pa.Array:
        pick = self.random
        kind = pick.choice(("text", "text", "other"))
        text = pa.array(values, pa.string())
        if kind == "text":
            return text.dictionary_encode() if pick.random() < 0.3 else text
        if column in ("price", "n", "item", "user", "id"):
            numbers = [_number(value) for value in values]
            if pick.random() < 0.3:
                return pa.array(
                    [None if x is None else Decimal(str(round(x % 1000, 2))) for x in numbers],
                    pa.decimal128(9, 2),
                )
            if pick.random() < 0.5:
                return pa.array(
                    [float("nan") if x is None and pick.random() < 0.5 else x for x in numbers],
                    pick.choice((pa.float64(), pa.float32())),
                )
            return pa.array([None if x is None else int(x) % 2**31 for x in numbers], pa.int64())
        if column == "ts":
            times = [START + dt.timedelta(seconds=pick.randrange(3 * 86400)) for _ in values]
            unit, zone = (
                pick.choice(("ms", "us", "ns")),
                pick.choice((None, "UTC", "Europe/Berlin")),
            )
            return pa.array(times, pa.timestamp("us", "UTC")).cast(pa.timestamp(unit, zone))
        if column == "note":
            return pa.array([v if v is None else v.encode() for v in values], pa.binary())
        return text


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def pack(container: str, files: dict[str, bytes]) -> bytes:
    """An archive of files."""
    buffer = io.BytesIO()
    if container == ".zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz" if container.endswith("gz") else "w") as tar:
            for name, content in files.items():
                header = tarfile.TarInfo(name)
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
    return buffer.getvalue()
