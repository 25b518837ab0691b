"""The source formats: delimited text (`csv`), JSON lines (`jsonl`) and Parquet.

A `Format` is all that is known of one of them: how its files begin, where a record ends, where the
declared columns stand, and the SQL that reads them. A text format gives records, which are joined
from many files; another one gives a file to DuckDB. To add a format, write its class, name it in
FORMATS, and name it in the YAML's schema (`FileTable.format`).

All formats end in one SELECT with `__file`, `__line`, `__raw`, `__problem`, `__width` (of a CSV row
with a wrong number of columns) and the declared columns. They go through text and TRY_CAST, so that
a value that does not fit its declared type is found and named, whatever the format.
"""

import csv
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.base.errors import FootpathError
from contracts.base.sql import literal, literals, name, parquet
from contracts.config.source import FileTable
from features.expressions import struct_of, text_of
from features.ingestion.declared_types import misfits, typed_rows
from features.ingestion.streams import too_large

UTF8_MARK = b"\xef\xbb\xbf"

# Stands in for a delimiter of several characters: the unit separator, which text does not hold.
UNIT = "\x1f"

# A quoted field that spans lines and has more bytes than this is an unclosed quote.
LONGEST_FIELD = 1 << 20

SAMPLE_ROWS = 1000

# What DuckDB calls the place of a row in its Parquet file.
ROW_NUMBER = "file_row_number"

# How DuckDB shows a JSON number that is none.
NAN = ("NaN", "nan")

NESTED = re.compile(r"\]$|^(STRUCT|MAP|UNION|JSON)")

# First bytes -> what they are, and what to do about it.
_FOREIGN = {
    b"\x1f\x8b": ("gzip", "rename it so that it ends in .gz, or compress it once only"),
    b"\x28\xb5\x2f\xfd": ("zstd", "rename it so that it ends in .zst, or compress it once only"),
    b"PK\x03\x04": ("zip", "unpack it, or compress it with gzip or zstd"),
    b"BZh": ("bzip2", "unpack it, or compress it with gzip or zstd"),
    b"\xfd7zXZ\0": ("xz", "unpack it, or compress it with gzip or zstd"),
    b"PAR1": ("Parquet", "set format: parquet in the YAML, or ask for the file as text"),
    b"\xff\xfe": ("UTF-16 or UTF-32", "save it as UTF-8"),
    b"\xfe\xff": ("UTF-16", "save it as UTF-8"),
    b"\0\0\xfe\xff": ("UTF-32", "save it as UTF-8"),
}


@dataclass(frozen=True)
class Layout:
    """Where the declared columns stand in the records of a text file."""

    def select(self, source: str, types: Mapping[str, str]) -> str:
        """The SELECT over a table of records (`__file`, `__line`, `__bytes`, `__text`)."""
        raise NotImplementedError


class Format:
    """One source format. This class is a text format whose records are lines."""

    is_text: ClassVar[bool] = True
    # SQL over `__raw` that lists a row's own keys, where rows name their columns.
    keys: ClassVar[str] = ""

    def __init__(self, table: FileTable) -> None:
        self.table = table
        self.has_header = False  # whether a file's first line is no row
        self.quote = b""

    def to_utf8(self, block: bytes) -> bytes:
        """Re-encodes a block of a file. Wrong bytes of UTF-8 stay: they are found line by line."""
        return block

    def end_of_records(self, data: bytes) -> int:
        """Where the last whole record of data ends; 0 if there is none."""
        return data.rfind(b"\n") + 1

    def record_starts(
        self, data: bytes, starts: np.ndarray, ends: np.ndarray, owner: np.ndarray
    ) -> np.ndarray | None:
        """Marks the lines on which a record starts; None if that is all of them."""

    def sniff(self, data: bytes, path: str) -> None:
        """Refuses another kind of file by its first records, whose rows would mean nothing.

        Raises:
          FootpathError: it is another kind of file, in another encoding, or has other line ends.
        """
        for mark, (kind, advice) in _FOREIGN.items():
            if data.startswith(mark):
                raise FootpathError(f"{path} is {kind} and not {self.table.format}: {advice}")
        lines = data.rstrip(b"\r\n")
        # In quotes, a CR may be part of a field.
        if b"\n" not in lines and b"\r" in lines and not (self.quote and self.quote in lines):
            raise FootpathError(f"{path} ends its lines with CR alone: save it with LF or CRLF")

    def layout(self, header: bytes | None, path: str) -> Layout:
        """Finds the declared columns, in a header if the format has one.

        Raises:
          FootpathError: the header lacks a declared column, or has it twice.
        """
        raise NotImplementedError

    def cells(self, line: str) -> list[str] | None:
        """Splits a row into the cells of its columns; None if it has none, or cannot be split."""

    def select_file(
        self,
        connection: duckdb.DuckDBPyConnection,
        on_disk: str,
        path: str,
        file: int,
        types: Mapping[str, str],
        is_sample: bool,
    ) -> str:
        """The SELECT over a file that lies on this machine, if the format is no text.

        Args:
          connection: DuckDB.
          on_disk: where the file lies.
          path: names it in sentences.
          file: its number.
          types: declared column -> type.
          is_sample: read its first rows only.

        Raises:
          FootpathError: the file is of another format, or lacks a declared column.
        """
        raise NotImplementedError


class JsonLines(Format):
    """One JSON object a line."""

    keys = "json_keys(__raw)"

    def sniff(self, data: bytes, path: str) -> None:
        """Refuses what is no text, and one JSON array over the whole file."""
        super().sniff(data, path)
        lines = data.rstrip(b"\r\n")
        first = lines.removeprefix(UTF8_MARK).lstrip()[:1]
        if first == b"[" and (b"\n" not in lines or lines.split(b"\n", 1)[0].strip() == b"["):
            raise FootpathError(
                f"{path} is one JSON array: write one object a line (jq -c '.[]' does it)"
            )

    def layout(self, header: bytes | None, path: str) -> Layout:  # noqa: ARG002
        """Rows name their columns: all files have one layout."""
        return JsonLayout(tuple(self.table.nulls))


@dataclass(frozen=True)
class JsonLayout(Layout):
    """Keys of JSON objects are columns."""

    nulls: tuple[str, ...]  # words that mean null

    def select(self, source: str, types: Mapping[str, str]) -> str:
        """The SELECT over a table of records."""
        wanted = {c: "JSON" if NESTED.search(kind) else "VARCHAR" for c, kind in types.items()}
        fields = (
            "CASE WHEN CASE WHEN starts_with(__text, '{') THEN true "
            "ELSE starts_with(ltrim(__text), '{') END AND json_valid(__text) "
            f"THEN json_transform(__text, {literal(json.dumps(wanted))}) END"
        )
        shape = (
            "CASE WHEN __text IS NULL THEN 'not UTF-8' "
            "WHEN __fields IS NULL THEN 'not a JSON object' END"
        )
        values = [
            _but(_json_text(column), self.nulls)
            if kind == "VARCHAR"
            else _but(f"__fields.{name(column)}", ("", "null", *NAN, *self.nulls))
            for column, kind in types.items()
        ]
        return typed_rows(_decoded(source, fields), shape, "NULL::BIGINT", values, types)


class Delimited(Format):
    """Delimited text, with a header or without; a quoted field may span lines."""

    def __init__(self, table: FileTable) -> None:
        super().__init__(table)
        self.has_header = table.csv.header
        self.quote = table.csv.quote.encode()

    def to_utf8(self, block: bytes) -> bytes:
        """Re-encodes a block of Latin-1."""
        return block.decode("latin-1").encode() if self.table.csv.encoding == "latin-1" else block

    def end_of_records(self, data: bytes) -> int:
        """Where the last whole record of data ends: not inside a quoted field."""
        end = super().end_of_records(data)
        if not self.quote or not data.count(self.quote, 0, end) % 2:
            return end
        # An odd number of quotes: a field goes on behind the cut, so cut where quotes are even.
        content = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(content == ord("\n")) + 1
        is_outside = np.searchsorted(np.flatnonzero(content == ord(self.quote)), ends) % 2 == 0
        outside = int(ends[is_outside][-1]) if is_outside.any() else 0
        # A quote that was never closed would hold back everything after it.
        return outside if len(data) - outside < LONGEST_FIELD else end

    def record_starts(
        self, data: bytes, starts: np.ndarray, ends: np.ndarray, owner: np.ndarray
    ) -> np.ndarray | None:
        """Marks the lines on which a record starts, and not a quoted field goes on.

        Only lines with an odd number of quotes can open or close such a field, and the loop is over
        those. Lines are one record if together they are proper CSV; a quote that is never closed
        opens nothing, and its line is refused alone.
        """
        if not self.quote:
            return None
        is_start = np.ones(len(starts), bool)
        quotes = np.flatnonzero(np.frombuffer(data, np.uint8) == ord(self.quote))
        counts = np.searchsorted(quotes, ends) - np.searchsorted(quotes, starts)
        record = self._record_pattern()
        is_inside = False
        for first, last in itertools.pairwise(np.flatnonzero(counts % 2).tolist()):
            if is_inside:
                is_inside = False
            elif owner[first] == owner[last] and ends[last] - starts[first] < LONGEST_FIELD:
                lines = data[starts[first] : ends[last]].rstrip(b"\r\n")
                is_inside = record.fullmatch(lines) is not None
                if is_inside:
                    is_start[first + 1 : last + 1] = False
        return is_start

    def _record_pattern(self) -> re.Pattern[bytes]:
        """Compiles a CSV record: fields quoted as a whole, or on one line and not quoted."""
        quote = re.escape(self.quote)
        delimiter = re.escape(self.table.csv.delimiter.encode())
        quoted = b"%b(?:[^%b]|%b%b)*+%b" % (quote, quote, quote, quote, quote)
        plain = b"(?!%b)(?:(?!%b)[^\n])*+" % (quote, delimiter)
        return re.compile(b"(?:%b|%b)(?:%b(?:%b|%b))*+" % (quoted, plain, delimiter, quoted, plain))

    def layout(self, header: bytes | None, path: str) -> Layout:
        """Finds the declared columns in a header, or takes them in their order without one.

        Raises:
          FootpathError: the header lacks a declared column, or has it twice.
        """
        delimiter, quote = self.table.csv.delimiter, self.table.csv.quote
        nulls = ("", *self.table.nulls)
        declared = list(self.table.columns)
        if header is None:
            width = len(declared)
            return DelimitedLayout(delimiter, quote, nulls, tuple(range(1, width + 1)), width)
        found = self.cells(header.decode(errors="replace"))
        if found is None:
            raise FootpathError(f"{path}: its header cannot be read: ask for the file again")
        found = [column.strip() for column in found]
        for column in declared:
            if found.count(column) != 1 and (column in found or column not in self.table.optional):
                how = "has no" if column not in found else "has more than one"
                raise FootpathError(
                    f"{path}: its header {how} column '{column}', which the YAML declares "
                    f"(it has: {listed(found, 20)}): fix the YAML or ask for the file again"
                )
        positions = tuple(found.index(c) + 1 if c in found else None for c in declared)
        return DelimitedLayout(delimiter, quote, nulls, positions, len(found))

    def cells(self, line: str) -> list[str] | None:
        """Splits a row into the cells of its columns; None if it cannot be split."""
        try:
            return next(split_delimited([line], self.table.csv.delimiter, self.table.csv.quote), [])
        except csv.Error:
            return None


def split_delimited(lines: Iterable[str], delimiter: str, quote: str) -> Iterator[list[str]]:
    """Yields the cells of rows of one line each, with Python's reader.

    Raises:
      csv.Error: a row cannot be split.
    """
    rows = (line.rstrip("\r\n").replace(delimiter, UNIT) for line in lines)
    quoting = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    for row in csv.reader(rows, delimiter=UNIT, quotechar=quote or None, quoting=quoting):
        yield [cell.replace(UNIT, delimiter) for cell in row]


@dataclass(frozen=True)
class DelimitedLayout(Layout):
    """Where each declared column stands, counted from 1, and among how many."""

    delimiter: str
    quote: str
    nulls: tuple[str, ...]  # words that mean null
    positions: tuple[int | None, ...]  # None for an optional column that is not there
    width: int

    def select(self, source: str, types: Mapping[str, str]) -> str:
        """The SELECT over a table of records."""
        shape = (
            "CASE WHEN __text IS NULL THEN 'not UTF-8' "
            "WHEN __fields IS NULL THEN 'a quote is not closed, or text follows its end' "
            f"WHEN len(__fields) <> {self.width} THEN len(__fields) || ' columns where there "
            f"should be {self.width}' END"
        )
        width = f"CASE WHEN len(__fields) <> {self.width} THEN len(__fields) END"
        values = [_but(f"__fields[{p}]", self.nulls) if p else "NULL" for p in self.positions]
        return typed_rows(_decoded(source, self._fields()), shape, width, values, types)

    def _fields(self) -> str:
        """The SQL that splits `__text` into a list; null where quotes are wrong."""
        line, separator = "__text", self.delimiter
        if len(separator) > 1:
            line, separator = f"replace(__text, {literal(separator)}, {literal(UNIT)})", UNIT
        plain = f"string_split({line}, {literal(separator)})"
        if not self.quote:
            return plain
        # A field is quoted as a whole, quotes inside it doubled, or it does not begin with one.
        d, q = (f"\\x{{{ord(char):x}}}" for char in (separator, self.quote))
        field = f"{q}(?:[^{q}]|{q}{q})*{q}|[^{d}{q}][^{d}]*|"
        line = f"{literal(separator)} || {line}"
        bare = f"replace(f[2:-2], {literal(self.quote * 2)}, {literal(self.quote)})"
        bare = f"CASE WHEN starts_with(f, {literal(self.quote)}) THEN {bare} ELSE f END"
        if separator != self.delimiter:
            bare = f"replace({bare}, {literal(UNIT)}, {literal(self.delimiter)})"
        return (
            f"CASE WHEN NOT contains(__text, {literal(self.quote)}) THEN {plain} "
            f"WHEN regexp_full_match({line}, '(?:{d}(?:{field}))+') "
            f"THEN list_transform(regexp_extract_all({line}, '{d}({field})', 1), "
            f"lambda f: {bare}) END"
        )


class Parquet(Format):
    """Parquet, read by DuckDB where it lies on this machine; rows count from 1."""

    is_text = False

    def select_file(
        self,
        connection: duckdb.DuckDBPyConnection,
        on_disk: str,
        path: str,
        file: int,
        types: Mapping[str, str],
        is_sample: bool,
    ) -> str:
        """The SELECT over a file. `__raw` is null where the row could be read."""
        try:
            relation = connection.read_parquet(on_disk, hive_partitioning=False)
            self._check_columns(pq.read_schema(on_disk).names, path)
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise FootpathError(
                f"{path} is not Parquet, or is damaged ({reason}): ask for it again"
            ) from None
        found = dict(zip(relation.columns, map(str, relation.types), strict=True))
        if not is_sample:
            self._check_size(connection, on_disk, path, found)
        number = f"{ROW_NUMBER} + 1"
        options = [f"{ROW_NUMBER} = true"]
        if ROW_NUMBER in map(str.lower, found):
            number, options = "row_number() OVER ()", []  # the file has one of its own
        columns = [name(column) for column in types]
        values = [
            f"{self._value(column, found.get(column), kind)} AS {name(column)}"
            for column, kind in types.items()
        ]
        flaws = [
            f"CASE WHEN {name(c)} IS NOT NULL AND TRY(decode({name(c)})) IS NULL "
            f"THEN {literal(f'{c} is not UTF-8')} END"
            for c, kind in types.items()
            if found.get(c) == "BLOB" and kind != "BLOB"
        ]
        flaw = f"nullif(concat_ws('; ', {', '.join(flaws)}), '')" if flaws else "NULL::VARCHAR"
        rows = (
            f"(SELECT {file} AS __file, {number} AS __line, {flaw} AS __shape, {', '.join(values)} "
            f"FROM {parquet(literal(on_disk), *options)}"
            f"{f' LIMIT {SAMPLE_ROWS}' if is_sample else ''})"
        )
        raw = (
            f"CASE WHEN coalesce(__shape, {misfits(columns, types, found)}) IS NOT NULL "
            f"THEN to_json({struct_of(types)}) END AS __raw"
        )
        source = f"(SELECT *, {raw} FROM {rows})"
        return typed_rows(source, "__shape", "NULL::BIGINT", columns, types, found)

    def _check_columns(self, found: list[str], path: str) -> None:
        """Refuses a file without a declared column, or with several of its name."""
        lower = [column.lower() for column in found]
        for column in self.table.columns:
            count = lower.count(column.lower())
            if count > 1 or (column not in found and column not in self.table.optional):
                raise FootpathError(
                    f"{path} has {'more than one' if count > 1 else 'no'} column '{column}', which "
                    f"the YAML declares (it has: {listed(found, 20)}): fix the YAML or ask for the "
                    "file again"
                )

    def _check_size(
        self, connection: duckdb.DuckDBPyConnection, on_disk: str, path: str, found: dict[str, str]
    ) -> None:
        """Refuses a file whose texts are too large: a dictionary makes millions of rows of one."""
        texts = [c for c in self.table.columns if found.get(c) in ("VARCHAR", "BLOB")]
        if not texts:
            return
        length = {"VARCHAR": "strlen", "BLOB": "octet_length"}
        sizes = " + ".join(f"coalesce(sum({length[found[c]]}({name(c)})), 0)" for c in texts)
        sql = f"SELECT {sizes} FROM {parquet(literal(on_disk))}"
        if connection.sql(sql).fetchall()[0][0] > self.table.max_bytes:
            raise too_large(path, self.table.max_bytes)

    def _value(self, column: str, found: str | None, kind: str) -> str:
        """The SQL of a column of the file, of the type that it has there or as text."""
        if found is None:
            return "NULL"
        value = name(column)
        if found in ("FLOAT", "DOUBLE"):
            # Parquet's statistics leave NaN out, and isnan would be folded to false by them.
            value = f"CASE WHEN isfinite({value}) OR isinf({value}) THEN {value} END"
        if found == "BLOB" and kind != "BLOB":
            value = f"coalesce(TRY(decode({value})), {value}::VARCHAR)"
            found = "VARCHAR"
        if found == "VARCHAR":
            return _but(value, self.table.nulls)
        return text_of(value) if kind == "VARCHAR" else value


FORMATS: dict[str, type[Format]] = {"jsonl": JsonLines, "csv": Delimited, "parquet": Parquet}


def format_of(table: FileTable) -> Format:
    """The format of a section of the YAML."""
    return FORMATS[table.format](table)


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names of columns for a sentence: the first ones, each as far as it can be read."""
    shown = ", ".join(f"'{column[:60]}'" for column in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def _decoded(source: str, fields: str) -> str:
    """The sub-select that decodes records, drops blank lines and splits the others.

    DuckDB's trim functions walk through a whole text, so they see only the texts that need it.
    """
    decoded = "coalesce(__text, TRY(decode(__bytes)))"
    cr, lf = "chr(13)", "chr(10)"
    stripped = (
        f"CASE WHEN ends_with(__text, {cr} || {cr} || {lf}) THEN rtrim(__text, {cr} || {lf}) "
        f"WHEN ends_with(__text, {cr} || {lf}) THEN substr(__text, 1, length(__text) - 2) "
        "ELSE substr(__text, 1, length(__text) - 1) END"
    )
    return (
        f"(SELECT *, {fields} AS __fields FROM (SELECT __file, __line, __text, "
        r"coalesce(__text, regexp_replace(__bytes::VARCHAR, '(\\x0D)?\\x0A$', '')) AS __raw "
        f"FROM (SELECT __file, __line, __bytes, {stripped} AS __text FROM "
        f"(SELECT __file, __line, __bytes, {decoded} AS __text FROM {source}))) "
        "WHERE (strlen(__raw) > 0 AND NOT starts_with(__raw, ' ')) OR trim(__raw) <> '')"
    )


def _but(value: str, nulls: Sequence[str]) -> str:
    """The SQL of a value that is null where its text is one of some words."""
    if not nulls:
        return value
    if len(nulls) == 1:
        return f"nullif({value}, {literal(nulls[0])})"
    return f"CASE WHEN {value}::VARCHAR NOT IN ({literals(nulls)}) THEN {value} END"


def _json_text(column: str) -> str:
    """The SQL of a JSON value as text: NaN is null, and a whole number has no fraction.

    DuckDB shows whole numbers that were written otherwise as 5.0 or 5e+20. The type is asked for
    where a text looks like that.
    """
    value = f"__fields.{name(column)}"
    pointer = "/" + column.replace("~", "~0").replace("/", "~1")
    is_text = f"json_type(__text, {literal(pointer)}) <> 'DOUBLE'"
    is_nan = f"{value} IN ({literals(NAN)})"
    whole = f"coalesce(TRY_CAST({value} AS HUGEINT)::VARCHAR, {value})"
    # For speed: most texts are words, or longer than any number that DuckDB shows.
    return (
        f"CASE WHEN CASE WHEN {value} < ':' THEN strlen({value}) < 25 ELSE {is_nan} END THEN CASE "
        f"WHEN NOT (ends_with({value}, '.0') OR contains({value}, 'e+') OR {is_nan}) THEN {value} "
        f"WHEN {is_text} THEN {value} WHEN NOT {is_nan} THEN {whole} END ELSE {value} END"
    )
