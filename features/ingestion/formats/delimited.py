"""Delimited text (`csv`), with a header or without; a quoted field may span lines."""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from contracts.base.errors import FootpathError
from contracts.base.sql import literal
from contracts.config.source import FileTable
from features.ingestion.formats.base import Decoder, Format, Layout, but, decoded, listed
from features.ingestion.formats.declared_types import typed_rows
from features.ingestion.formats.encodings import TextDecoder

# Stands in for a delimiter of several characters: the unit separator, which text does not hold.
UNIT = "\x1f"

# A quoted field that spans lines and has more bytes than this is an unclosed quote.
LONGEST_FIELD = 1 << 20


class Delimited(Format):
    """Delimited text, with a header or without; a quoted field may span lines."""

    def __init__(self, table: FileTable) -> None:
        super().__init__(table)
        self.has_header = table.csv.header
        self.quote = table.csv.quote.encode()

    def decoder(self, path: str) -> Decoder:
        """Re-encodes a file of another encoding."""
        encoding = self.table.csv.encoding
        return super().decoder(path) if encoding == "utf-8" else TextDecoder(encoding, path)

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
        csv = self.table.csv
        dialect = csv.delimiter, csv.quote, csv.encoding
        nulls = ("", *self.table.nulls)
        declared = list(self.table.columns)
        if header is None:
            width = len(declared)
            return DelimitedLayout(*dialect, nulls, tuple(range(1, width + 1)), width)
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
        return DelimitedLayout(*dialect, nulls, positions, len(found))

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
    encoding: str
    nulls: tuple[str, ...]  # words that mean null
    positions: tuple[int | None, ...]  # None for an optional column that is not there
    width: int

    def select(self, source: str, types: Mapping[str, str]) -> str:
        """The SELECT over a table of records."""
        shape = (
            f"CASE WHEN __text IS NULL THEN {literal(f'not {self.encoding.upper()}')} "
            "WHEN __fields IS NULL THEN 'a quote is not closed, or text follows its end' "
            f"WHEN len(__fields) <> {self.width} THEN len(__fields) || ' columns where there "
            f"should be {self.width}' END"
        )
        width = f"CASE WHEN len(__fields) <> {self.width} THEN len(__fields) END"
        values = [but(f"__fields[{p}]", self.nulls) if p else "NULL" for p in self.positions]
        return typed_rows(decoded(source, self._fields()), shape, width, values, types)

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
