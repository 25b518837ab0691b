"""What is known of a source format: how its files begin, where records end, which SQL reads them.

A text format gives records, which are joined from many files; another one gives a file to DuckDB.
All formats end in one SELECT with `__file`, `__line`, `__raw`, `__problem`, `__width` (of a CSV row
with a wrong number of columns) and the declared columns. They go through text and TRY_CAST, so that
a value that does not fit its declared type is found and named, whatever the format.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import duckdb
import numpy as np

from contracts.base.errors import FootpathError
from contracts.base.sql import literal, literals
from contracts.config.source import FileTable

NESTED = re.compile(r"\]$|^(STRUCT|MAP|UNION|JSON)")

UTF8_MARK = b"\xef\xbb\xbf"

# Makes text in UTF-8, records that end with lines, of a file's blocks in order, the last with true.
Decoder = Callable[[bytes, bool], bytes]

_WIDE = "set csv.encoding to utf-16 in the YAML if it is CSV, or save it as UTF-8"

# First bytes -> what they are, and what to do about it.
_FOREIGN = {
    b"\x1f\x8b": ("gzip", "rename it so that it ends in .gz, or compress it once only"),
    b"\x28\xb5\x2f\xfd": ("zstd", "rename it so that it ends in .zst, or compress it once only"),
    b"PK\x03\x04": ("zip", "unpack it, or compress it with gzip or zstd"),
    b"BZh": ("bzip2", "unpack it, or compress it with gzip or zstd"),
    b"\xfd7zXZ\0": ("xz", "unpack it, or compress it with gzip or zstd"),
    b"PAR1": ("Parquet", "set format: parquet in the YAML, or ask for the file as text"),
    b"\xff\xfe": ("UTF-16 or UTF-32", _WIDE),
    b"\xfe\xff": ("UTF-16", _WIDE),
    b"\0\0\xfe\xff": ("UTF-32", _WIDE),
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
        self.quote = b""

    def decoder(self, path: str) -> Decoder:  # noqa: ARG002
        """What makes text in UTF-8 of a file. Wrong bytes stay: they are found line by line."""
        return lambda block, is_last: block  # noqa: ARG005

    def end_of_records(self, data: bytes) -> int:
        """Where the last whole record of data ends; 0 if there is none."""
        return data.rfind(b"\n") + 1

    def ends_record(self, data: bytes) -> bool:
        """Whether data ends with the end of a line that is none of a value."""
        return data.endswith(b"\n")

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

    def preamble(self, data: bytes, line: int, path: str) -> int:  # noqa: ARG002
        """How many bytes stand before the header, or the first row, in data from a line on."""
        return 0

    def header(self, data: bytes) -> bytes:  # noqa: ARG002
        """The header that data begins with; empty without one."""
        return b""

    def layout(self, header: bytes | None, path: str) -> Layout:
        """Finds the declared columns, in a header if the format has one.

        Raises:
          FootpathError: the header lacks a declared column, or has it twice.
        """
        raise NotImplementedError

    def cells(self, line: str) -> list[str | None] | None:
        """Splits a row into the cells of its columns; None if it has none, or cannot be split."""

    def selects_of_file(
        self,
        connection: duckdb.DuckDBPyConnection,
        on_disk: str,
        path: str,
        file: int,
        types: Mapping[str, str],
        is_sample: bool,
    ) -> Iterator[str]:
        """The SELECTs over a file that lies on this machine, one after another, if it is no text.

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


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names of columns for a sentence: the first ones, each as far as it can be read."""
    shown = ", ".join(f"'{column[:60]}'" for column in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def decoded(source: str, fields: str, comment: str = "") -> str:
    """The sub-select that decodes records, drops blank lines and comments, and splits the others.

    DuckDB's trim functions walk through a whole text, so they see only the texts that need it.
    """
    text = "coalesce(__text, TRY(decode(__bytes)))"
    cr, lf = "chr(13)", "chr(10)"
    stripped = (
        f"CASE WHEN ends_with(__text, {cr} || {cr} || {lf}) THEN rtrim(__text, {cr} || {lf}) "
        f"WHEN ends_with(__text, {cr} || {lf}) THEN substr(__text, 1, length(__text) - 2) "
        "ELSE substr(__text, 1, length(__text) - 1) END"
    )
    is_row = f"NOT starts_with(__raw, {literal(comment)}) AND " if comment else ""
    return (
        f"(SELECT *, {fields} AS __fields FROM (SELECT __file, __line, __text, "
        r"coalesce(__text, regexp_replace(__bytes::VARCHAR, '(\\x0D)?\\x0A$', '')) AS __raw "
        f"FROM (SELECT __file, __line, __bytes, {stripped} AS __text FROM "
        f"(SELECT __file, __line, __bytes, {text} AS __text FROM {source}))) "
        f"WHERE {is_row}((strlen(__raw) > 0 AND NOT starts_with(__raw, ' ')) OR trim(__raw) <> ''))"
    )


def but(value: str, nulls: Sequence[str]) -> str:
    """The SQL of a value that is null where its text is one of some words."""
    if not nulls:
        return value
    if len(nulls) == 1:
        return f"nullif({value}, {literal(nulls[0])})"
    return f"CASE WHEN {value}::VARCHAR NOT IN ({literals(nulls)}) THEN {value} END"


def escaped(content: np.ndarray, escape: str) -> np.ndarray:
    """The places of the bytes behind an escape: of each run of escapes, an odd one has one."""
    found = np.flatnonzero(content == ord(escape))
    if not len(found):
        return found
    is_first = np.concatenate([[True], np.diff(found) > 1])
    begins, ends = found[is_first], found[np.append(is_first[1:], True)] + 1
    behind = ends[(ends - begins) % 2 == 1]
    return behind[behind < len(content)]
