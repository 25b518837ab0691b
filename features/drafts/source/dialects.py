"""How delimited text is laid out: delimiter, quote, header, lines before it.

In:  the first lines of a file. Out: its `Csv` and the names of its columns. Each layout is tried
with the reader of landing files itself, and the one by which the most rows have the same number of
fields wins: what is chosen here is read there in the same way.
"""

import itertools
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb

from contracts.base.errors import FootpathError
from contracts.config.source import Csv, FileTable
from features.drafts.source.known_columns import known_columns
from features.ingestion.formats import format_of
from features.ingestion.formats.base import Format
from features.ingestion.reader import ROWS, RowReader
from features.ingestion.streams import SourceFile

# In this order where several fit equally well. Blanks part words too, so they come last.
DELIMITERS = ("\t", "::", "||", "|", ";", ",", "\x01", "^", "~", " ")

# Rows by which layouts are compared, and the share of them that must agree.
LOOKED_AT = 2000
AGREEING = 0.75
LONGEST_NAME = 100
MOST_TITLES = 20

_VALUE = re.compile(
    r"[-+]?[\d.,]*\d[\d.,]*%?|.*\d{4}-\d\d-\d\d.*|\d+[/.]\d+[/.]\d+.*|true|false|[\w.+-]+@[\w-]+\..*"
    r"|https?://.*|[{\[].*|[0-9a-f]{8}-[0-9a-f]{4}-.*|.*::.*|\[?\d+/\w{3}/\d{4}:.*",
    re.IGNORECASE,
)
_NAME = re.compile(r"[\w$%#@&*€¥£(][^\n\r\t]{0,99}|")
_PAIRS = re.compile(r"""(?:[\w.-]+=(?:"[^"]*"|\S*)(?:\s+|$)){3,}""")
_BLANKS = re.compile(r"\S {2,}\S")


@dataclass(frozen=True)
class Dialect:
    """Layout of a delimited file."""

    csv: Csv
    names: list[str]  # of all columns, in their order; made up where there is no header
    doubts: list[str] = field(default_factory=list)


def dialect_of(
    connection: duckdb.DuckDBPyConnection, lines: list[str], encoding: str, scratch: Path, path: str
) -> Dialect:
    """Finds the layout of delimited text.

    Args:
      connection: DuckDB.
      lines: the first ones, without their ends.
      encoding: of the file, for `csv.encoding`.
      scratch: an empty folder of this machine.
      path: names the file in sentences.

    Raises:
      FootpathError: it is no delimited text.
    """
    before, rest = _before_header(lines)
    _refuse_what_is_no_table(rest, path)
    if titles := _titles(rest):
        before = replace(before, skip=before.count + titles, comment="")
        rest = rest[titles:]
    csv, width = _layout(connection, _head(scratch, rest), rest)
    rest = [line for line in rest if line.strip()]
    if width == 1 or csv.delimiter == " ":
        _refuse_fixed_width(rest, path)
    rows = _cells(csv, rest)
    has_header = _is_header(rows)
    names = [cell.strip() for cell in rows[0]] if has_header else []
    if before.fields and not has_header:
        names = before.fields if len(before.fields) == width else []
    csv = csv.model_copy(
        update={
            "header": has_header,
            "encoding": encoding,
            "comment": before.comment,
            "skip": before.skip,
        }
    )
    doubts = []
    if not has_header and not names:
        names = known_columns(csv.delimiter, rows, AGREEING)
    if not names:
        names = [f"c{number}" for number in range(1, width + 1)]
        doubts.append("there is no header: call the columns c1, c2, ... what they are.")
    return Dialect(csv, names, doubts)


@dataclass(frozen=True)
class _Before:
    """Lines above the header or the first row."""

    count: int = 0
    fields: list[str] = field(default_factory=list)  # names that one gives, as web servers' do
    comment: str = ""  # as `csv.comment` and `csv.skip` have them
    skip: int = 0


def _before_header(lines: list[str]) -> tuple[_Before, list[str]]:
    """Parts comments and a line such as `sep=;` from the rows."""
    count, fields = 0, []
    for line in lines:
        if line.lower().startswith("#fields:"):
            fields = line.split(":", 1)[1].split()
        is_comment = re.match(r"# |//|#+$|#-|#(Version|Software|Fields|Date|Remark)", line)
        if not is_comment and not (count == 0 and re.fullmatch(r'"?sep=.{1,2}', line)):
            break
        count += 1
    comments = [line for line in lines[:count] if line.startswith(("#", "//"))]
    rest = lines[count:]
    if not comments:
        return _Before(count, fields), rest
    mark = "#" if comments[0].startswith("#") else "//"
    # A row may begin with the same sign: then comments are told by their number.
    if any(line.startswith(mark) for line in rest):
        return _Before(count, fields, "", count), rest
    return _Before(count, fields, mark), rest


def _head(scratch: Path, lines: list[str]) -> SourceFile:
    """The first lines as a file that the reader of landing takes."""
    body = scratch / "head.txt"
    body.write_text("\n".join(lines[:LOOKED_AT]) + "\n", encoding="utf-8", newline="")
    return SourceFile(body.name, str(body), body.stat().st_size, "")


def _titles(lines: list[str]) -> int:
    """How many lines without a delimiter stand above the rows, as reports have titles."""
    some = lines[: MOST_TITLES + 3]
    counts = [[line.count(delimiter) for line in some] for delimiter in DELIMITERS[:-1]]
    firsts = [next((n for n, count in enumerate(each) if count), 0) for each in counts]
    starts = [
        first
        for first, each in zip(firsts, counts, strict=True)
        if len(each) > first + 1 and min(each[first : first + 3]) > 0
    ]
    return min(starts, default=0)


def _refuse_what_is_no_table(lines: list[str], path: str) -> None:
    text = "\n".join(lines[:20]).lstrip()
    if re.match(r"<(\?xml|!doctype|html|\w+[ >])", text, re.IGNORECASE):
        raise FootpathError(f"{path} is XML or HTML: write its records as JSON lines or CSV")
    if re.match(r"(--|/\*|INSERT INTO|CREATE TABLE|COPY )", text) and "INTO" in text.upper():
        raise FootpathError(f"{path} is a dump of SQL: export the table as CSV instead")
    some = lines[:LOOKED_AT]
    if some and sum(bool(_PAIRS.fullmatch(line[:500].strip())) for line in some) > AGREEING * len(
        some
    ):
        raise FootpathError(
            f"{path} has lines of key=value pairs (logfmt): write each line as a JSON object"
        )


def _refuse_fixed_width(lines: list[str], path: str) -> None:
    some = lines[:LOOKED_AT]
    if sum(bool(_BLANKS.search(line[:500])) for line in some) > AGREEING * len(some):
        raise FootpathError(
            f"{path} has columns at fixed places, filled up with blanks: write it as CSV "
            "(pandas.read_fwf reads such files)"
        )


def _layout(
    connection: duckdb.DuckDBPyConnection, file: SourceFile, lines: list[str]
) -> tuple[Csv, int]:
    """The layout by which the most rows have the same, largest number of fields.

    Text that nothing parts is one column: the delimiter is then a tab, which it does not hold.
    """
    text = "\n".join(lines[:LOOKED_AT])
    escapes = ("", "\\") if "\\" in text else ("",)
    best: tuple[tuple[float, ...], Csv, int] | None = None
    for delimiter in DELIMITERS:
        if delimiter not in text or (delimiter == " " and best):
            continue
        # Of the quotes, the one by which the most rows agree.
        of_delimiter: tuple[float, Csv, int] | None = None
        for quote, escape in itertools.product(_quotes(lines, delimiter, text), escapes):
            if escape and quote and f"\\{quote}" not in text:
                continue
            csv = Csv(delimiter=delimiter, quote=quote, escape=escape, header=False)
            widths = widths_of(connection, file, csv)
            width, agreeing = max(widths.items(), key=lambda pair: pair[::-1], default=(0, 0))
            share = agreeing / max(sum(widths.values()), 1)
            if width < 2:
                continue
            # Of equal ones the first; but a dump of a database escapes, which its null tells.
            is_dump = bool(escape) and not quote and _holds_cell(lines, delimiter, "\\N")
            if of_delimiter is None or (share, is_dump) > (of_delimiter[0], False):
                of_delimiter = share, csv, width
        if of_delimiter is None or of_delimiter[0] < AGREEING:
            continue
        # Of delimiters, the one that parts more, unless another one fits far more rows.
        share, csv, width = of_delimiter
        rank = (round(share, 1), width, share)
        if best is None or rank > best[0]:
            best = rank, csv, width
    if best is None:
        return Csv(delimiter="\t", quote="", header=False), 1
    _, csv, width = best
    if not csv.quote and not csv.escape and '"' not in text:
        csv = csv.model_copy(update={"quote": '"'})
    return csv, width


def _quotes(lines: list[str], delimiter: str, text: str) -> list[str]:
    """The quotes that are tried, those of which the text has any first."""
    quotes = ["'"] if _is_all_quoted(lines[:5], delimiter, "'") else []
    return [*quotes, *(['"'] if '"' in text else []), ""]


def _holds_cell(lines: list[str], delimiter: str, cell: str) -> bool:
    return any(cell in line.split(delimiter) for line in lines[:LOOKED_AT])


def _is_all_quoted(lines: list[str], delimiter: str, quote: str) -> bool:
    cells = [cell for line in lines for cell in line.split(delimiter) if cell]
    return all(len(cell) > 1 and cell[0] == cell[-1] == quote for cell in cells)


def widths_of(connection: duckdb.DuckDBPyConnection, file: SourceFile, csv: Csv) -> Counter[int]:
    """Counts rows by their number of fields, as landing reads them; 0 where quotes are wrong."""
    table = FileTable(url="x", format="csv", csv=csv, columns={"c1": "VARCHAR"})
    found: Counter[int] = Counter()
    for _ in RowReader(connection, table, [file], file.size + 1).chunks():
        counted = connection.sql(
            "SELECT CASE WHEN __problem IS NULL THEN 1 ELSE coalesce(__width, 0) END, count(*) "
            f"FROM {ROWS} GROUP BY 1"
        ).fetchall()
        found.update(dict(counted))
    return found


def _cells(csv: Csv, lines: list[str]) -> list[list[str]]:
    """The cells of rows of one line each."""
    reader = _reader(csv)
    return [
        [cell or "" for cell in cells]
        for line in lines[:LOOKED_AT]
        if (cells := reader.cells(line))
    ]


def _reader(csv: Csv) -> Format:
    return format_of(FileTable(url="x", format="csv", csv=csv, columns={"c1": "VARCHAR"}))


def _is_header(rows: list[list[str]]) -> bool:
    """Whether the first row names columns: no cell of it is a value, or comes back below."""
    if not rows or len(rows) < 2:
        return bool(rows) and _names(rows[0])
    first, width = rows[0], len(rows[0])
    if not _names(first):
        return False
    below = [row for row in rows[1:] if len(row) == width]
    for place, cell in enumerate(first):
        if cell.strip() and any(row[place] == cell for row in below):
            return False
    return True


def _names(cells: list[str]) -> bool:
    if any(len(cell) > LONGEST_NAME for cell in cells):
        return False
    words = [cell.strip() for cell in cells]
    return any(words) and all(_NAME.fullmatch(w) and not _VALUE.fullmatch(w) for w in words)
