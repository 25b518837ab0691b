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

from contracts.dataset import Csv
from features.layout import CsvLayout, JsonLayout

# A quoted field that spans more lines than this is an unclosed quote.
LONGEST_FIELD_LINES = 1000


@dataclass(frozen=True)
class Piece:
    """Whole records of one file, the last one ending with a line end."""

    file: int
    first_line: int
    data: bytes
    layout: CsvLayout | JsonLayout


def end_of_records(data: bytes, csv: Csv | None) -> int:
    """Returns where the last whole record of data ends; 0 if there is none."""
    end = data.rfind(b"\n") + 1
    quote = csv.quote.encode() if csv else b""
    if quote and data.count(quote, 0, end) % 2:
        # The last quote opened a field that goes on behind the cut: cut before its line.
        opened = data.rfind(quote, 0, end)
        return data.rfind(b"\n", 0, opened) + 1 or end
    return end


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

    Only lines with an odd number of quotes can open or close such a field; the loop is over those.
    A quote that is never closed, or closed in another file, opens nothing: its line is refused.
    """
    is_start = np.ones(len(starts), bool)
    quotes = np.flatnonzero(np.frombuffer(data, np.uint8) == ord(csv.quote))
    counts = np.searchsorted(quotes, ends) - np.searchsorted(quotes, starts)
    quote, delimiter = re.escape(csv.quote.encode()), re.escape(csv.delimiter.encode())
    opens = re.compile(b"(?:^|%b)%b(?:[^%b]|%b%b)*$" % (delimiter, *[quote] * 4), re.DOTALL)
    is_inside = False
    for first, last in itertools.pairwise(np.flatnonzero(counts % 2).tolist()):
        if is_inside:
            is_inside = False
        elif last - first <= LONGEST_FIELD_LINES and owner[first] == owner[last]:
            is_inside = opens.search(data[starts[first] : ends[first]]) is not None
            if is_inside:
                is_start[first + 1 : last + 1] = False
    return is_start
