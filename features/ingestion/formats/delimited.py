"""Delimited text (`csv`), with a header or without; a quoted field may span lines."""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator
from functools import cached_property

import duckdb
import numpy as np

from contracts.base.errors import FootpathError
from contracts.config.source import FileTable
from features.ingestion.formats.base import Decoder, Format, Layout, escaped, listed
from features.ingestion.formats.delimited_rows import UNIT, DelimitedLayout, split_sql
from features.ingestion.formats.encodings import TextDecoder

# A quoted field that spans lines and has more bytes than this is an unclosed quote.
LONGEST_FIELD = 1 << 20


class Delimited(Format):
    """Delimited text, with a header or without; a quoted field may span lines."""

    def __init__(self, table: FileTable) -> None:
        super().__init__(table)
        self.csv = table.csv
        self.quote = table.csv.quote.encode()
        self._comment = table.csv.comment.encode()

    @cached_property
    def _splitter(self) -> duckdb.DuckDBPyConnection:
        return duckdb.connect()

    def decoder(self, path: str) -> Decoder:
        """Re-encodes a file of another encoding."""
        encoding = self.table.csv.encoding
        return super().decoder(path) if encoding == "utf-8" else TextDecoder(encoding, path)

    def end_of_records(self, data: bytes) -> int:
        """Where the last whole record of data ends: not inside a quoted field."""
        data = self._marks(data)
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

    def ends_record(self, data: bytes) -> bool:
        """Whether data ends with the end of a line that no escape makes part of a value."""
        return self._marks(data).endswith(b"\n")

    def record_starts(
        self, data: bytes, starts: np.ndarray, ends: np.ndarray, owner: np.ndarray
    ) -> np.ndarray | None:
        """Marks the lines on which a record starts, and not a quoted field goes on.

        Only lines with an odd number of quotes can open or close such a field, and the loop is over
        those. Lines are one record if together they are proper CSV; a quote that is never closed
        opens nothing, and its line is refused alone.
        """
        if not self.quote and not self.csv.escape:
            return None
        marks = np.frombuffer(self._marks(data), np.uint8)
        is_start = np.ones(len(starts), bool)
        if self.csv.escape:
            goes_on = (marks[ends - 1] != ord("\n"))[:-1] & (owner[1:] == owner[:-1])
            is_start[1:] = ~goes_on
        if not self.quote:
            return is_start
        quotes = np.flatnonzero(marks == ord(self.quote))
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

    def _marks(self, data: bytes) -> bytes:
        """Data in which what an escape makes text, and quotes in comments, are other bytes."""
        if not self.csv.escape and not (self._comment and self._comment in data):
            return data
        content = np.frombuffer(data, np.uint8).copy()
        if self.csv.escape:
            content[escaped(content, self.csv.escape)] = 0
        if self._comment and self.quote:
            ends = np.flatnonzero(content == ord("\n"))
            starts = np.concatenate([[0], ends + 1])
            ends = np.append(ends, len(content))
            quotes = np.flatnonzero(content == ord(self.quote))
            of_line = starts[np.searchsorted(ends, quotes)]
            is_comment = [data.startswith(self._comment, start) for start in of_line.tolist()]
            content[quotes[is_comment]] = 0
        return content.tobytes()

    def _record_pattern(self) -> re.Pattern[bytes]:
        """Compiles a CSV record: fields quoted as a whole, or on one line and not quoted."""
        quote, delimiter = re.escape(self.quote), re.escape(self.csv.delimiter.encode())
        escape = re.escape(self.csv.escape.encode())
        behind = b"|%b(?s:.)" % escape if escape else b""
        quoted = b"%b(?:[^%b%b]|%b%b%b)*+%b" % (quote, quote, escape, quote, quote, behind, quote)
        plain = b"(?!%b)(?:(?!%b)[^\n%b]%b)*+" % (quote, delimiter, escape, behind)
        return re.compile(b"(?:%b|%b)(?:%b(?:%b|%b))*+" % (quoted, plain, delimiter, quoted, plain))

    def preamble(self, data: bytes, line: int, path: str) -> int:
        """How many bytes stand before the header, or the first row, in data from a line on.

        Raises:
          FootpathError: a line `sep=;` says another delimiter than the YAML.
        """
        place = 0
        while place < len(data):
            end = data.find(b"\n", place) + 1 or len(data)
            text = data[place:end].strip()
            said = re.fullmatch(rb'"?sep=(.)"?', data[place:end].strip(b"\r\n"))
            if said and line == 1 and (self.csv.header or said[1] == self.csv.delimiter.encode()):
                if said[1] != self.csv.delimiter.encode():
                    raise FootpathError(
                        f"{path} begins with {text.decode(errors='replace')}: set csv.delimiter to "
                        "that in the YAML"
                    )
            elif line > self.csv.skip and not (
                (self._comment and text.startswith(self._comment)) or (self.csv.header and not text)
            ):
                break
            line, place = line + 1, end
        return place

    def header(self, data: bytes) -> bytes:
        """The header that data begins with, whose names may span lines; empty without one."""
        if not self.csv.header:
            return b""
        first = end = data.find(b"\n") + 1 or len(data)
        while self.quote and data.count(self.quote, 0, end) % 2 and end < LONGEST_FIELD:
            if not (end := data.find(b"\n", end) + 1):
                break
        is_whole = end == first or self._record_pattern().fullmatch(data[:end].rstrip(b"\r\n"))
        return data[:end] if end and is_whole else data[:first]

    def layout(self, header: bytes | None, path: str) -> Layout:
        """Finds the declared columns in a header, or takes them in their order without one.

        Raises:
          FootpathError: the header lacks a declared column, or has it twice.
        """
        nulls = ("", *self.table.nulls)
        declared = list(self.table.columns)
        if header is None:
            width = len(declared)
            return DelimitedLayout(self.csv, nulls, tuple(range(1, width + 1)), width)
        found = self.cells(header.decode(errors="replace"))
        if found is None:
            raise FootpathError(f"{path}: its header cannot be read: ask for the file again")
        found = [(column or "").strip() for column in found]
        for column in declared:
            if found.count(column) != 1 and (column in found or column not in self.table.optional):
                how = "has no" if column not in found else "has more than one"
                raise FootpathError(
                    f"{path}: its header {how} column '{column}', which the YAML declares "
                    f"(it has: {listed(found, 20)}): fix the YAML or ask for the file again"
                )
        positions = tuple(found.index(c) + 1 if c in found else None for c in declared)
        return DelimitedLayout(self.csv, nulls, positions, len(found))

    def cells(self, line: str) -> list[str | None] | None:
        """Splits a row into the cells of its columns; None if it cannot be split."""
        if self.csv.escape:
            bare = "SELECT rtrim(?, chr(13) || chr(10)) AS __text"
            sql = f"SELECT {split_sql(self.csv)} FROM ({bare})"
            return self._splitter.execute(sql, [line]).fetchall()[0][0]
        try:
            return [*next(split_delimited([line], self.csv.delimiter, self.csv.quote), [])]
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
