"""Bytes of text files -> one Arrow table of records, without copying them.

In:  pieces of files, each of whole records. Out: `__file`, `__line`, `__bytes` and `__text`, one
row a record, line ends included; `__text` is null throughout if a record is not UTF-8, and then
has to be found out record by record. A record is a line; in CSV it may be several, where a quoted
field spans them.
"""

import itertools
import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from contracts.config.source import Csv
from features.ingestion.layout import CsvLayout, JsonLayout

# A quoted field that spans lines and has more bytes than this is an unclosed quote.
LONGEST_FIELD = 1 << 20


@dataclass(frozen=True)
class Piece:
    """Whole records of one file, the last one ending with a line end."""

    file: int
    first_line: int
    data: bytes
    layout: CsvLayout | JsonLayout


def end_of_records(data: bytes, csv: Csv | None) -> int:
    """Returns where the last whole record of data ends; 0 if there is none.

    Args:
      data: starts with a record.
      csv: given if quoted fields may span lines.
    """
    end = data.rfind(b"\n") + 1
    quote = csv.quote.encode() if csv else b""
    if not quote or not data.count(quote, 0, end) % 2:
        return end
    # An odd number of quotes: a field goes on behind the cut, so cut where quotes are even.
    text = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(text == ord("\n")) + 1
    is_outside = np.searchsorted(np.flatnonzero(text == ord(quote)), ends) % 2 == 0
    outside = int(ends[is_outside][-1]) if is_outside.any() else 0
    # A quote that was never closed would hold back everything after it.
    return outside if len(data) - outside < LONGEST_FIELD else end


def lines_of(pieces: list[Piece], csv: Csv | None) -> pa.Table:
    """Returns the records of several pieces as one table.

    Args:
      pieces: at most 2 GB in all.
      csv: given if quoted fields may span lines.
    """
    data = pieces[0].data if len(pieces) == 1 else b"".join(piece.data for piece in pieces)
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    starts = np.concatenate([[0], ends[:-1]])
    piece_ends = np.cumsum([len(piece.data) for piece in pieces])
    owner = np.searchsorted(piece_ends, starts, side="right")
    before = np.searchsorted(starts, piece_ends - [len(piece.data) for piece in pieces])
    line = np.arange(len(starts)) - before[owner]
    line += np.array([piece.first_line for piece in pieces])[owner]
    if csv and csv.quote:
        is_start = _record_starts(data, starts, ends, owner, csv)
        starts, owner, line = starts[is_start], owner[is_start], line[is_start]
    offsets = np.append(starts, len(data)).astype(np.int32)
    records = pa.BinaryArray.from_buffers(
        pa.binary(), len(starts), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
    file = np.array([piece.file for piece in pieces], np.int32)[owner]
    return pa.table(
        {"__file": file, "__line": line, "__bytes": records, "__text": _text_of(records)}
    )


def _text_of(records: pa.BinaryArray) -> pa.StringArray:
    """Returns the records as text without a copy; all nulls if one of them is not UTF-8."""
    try:
        return records.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.nulls(len(records), pa.string())


def _record_starts(
    data: bytes, starts: np.ndarray, ends: np.ndarray, owner: np.ndarray, csv: Csv
) -> np.ndarray:
    """Tells for each line whether a record starts there, or a quoted field goes on.

    Only lines with an odd number of quotes can open or close such a field, and the loop is over
    those. Lines are one record if together they are proper CSV; a quote that is never closed opens
    nothing, and its line is refused alone.
    """
    is_start = np.ones(len(starts), bool)
    quotes = np.flatnonzero(np.frombuffer(data, np.uint8) == ord(csv.quote))
    counts = np.searchsorted(quotes, ends) - np.searchsorted(quotes, starts)
    record = _record_pattern(csv)
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


def _record_pattern(csv: Csv) -> re.Pattern[bytes]:
    """Returns what a CSV record is: fields quoted as a whole, or on one line and not quoted."""
    quote, delimiter = re.escape(csv.quote.encode()), re.escape(csv.delimiter.encode())
    quoted = b"%b(?:[^%b]|%b%b)*+%b" % (quote, quote, quote, quote, quote)
    plain = b"(?!%b)(?:(?!%b)[^\n])*+" % (quote, delimiter)
    return re.compile(b"(?:%b|%b)(?:%b(?:%b|%b))*+" % (quoted, plain, delimiter, quoted, plain))
