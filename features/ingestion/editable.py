"""Refused rows as a file that a person can edit, and back.

In:  rows of quarantine. Out: JSON lines, one a row: where it is from (`source_file`, `source_line`,
`stage`, `day`, `was`: leave these as they are), why it was refused (`broken`, `detail`), and `row`:
an object of the landing's columns, or for the stage `events` of an event's. Repair `row` and
replay. A line that is removed stays refused. A row that could not be split into columns stands as
text, and is to be written as an object.
"""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from features.ingestion.formats import format_of
from features.ingestion.formats.base import UTF8_MARK, Format
from features.ingestion.listing import find_arrivals
from features.ingestion.replay import LANDING, REPAIRS, content_of
from features.ingestion.streams import read_blocks


def write_editable(dataset: Dataset, refused: pa.Table, path: Path) -> int:
    """Writes refused rows to a file that can be edited, each once; returns how many.

    Args:
      dataset: gives the layout of landing rows.
      refused: schema QUARANTINE; rows of stopped days count as `events`.
      path: gets JSON lines.
    """
    written, rows_written = set[tuple[str, int]](), 0
    headers: dict[str, list[str]] = {}
    format = format_of(dataset.landing)
    with connect() as connection, open(path, "w", encoding="utf-8") as file:
        connection.register("refused", refused)
        was = content_of(dataset, "raw")
        rows = connection.sql(
            f"SELECT *, CASE WHEN stage = 'events' THEN {was} END AS was FROM refused"
        ).to_arrow_reader(10_000)
        for batch in rows:
            for row in batch.to_pylist():
                # Of a row with several refused elements, the first one has its text.
                place = (row["source_file"], row["source_line"])
                if row["stage"] == LANDING and (row["raw"] is None or place in written):
                    continue
                written.add(place)
                rows_written += 1
                line = {key: row[key] for key in ("source_file", "source_line", "stage")}
                line |= {"day": row["day"] and str(row["day"]), "was": row["was"]}
                line |= {"broken": row["broken"], "detail": row["detail"]}
                line["row"] = _as_object(dataset, format, row, headers)
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return rows_written


def _as_object(
    dataset: Dataset, format: Format, row: dict[str, Any], headers: dict[str, list[str]]
) -> Any:
    """A refused row as an object, or as text where it cannot be split into columns."""
    try:
        found = json.loads(row["raw"])
        if isinstance(found, dict):
            return found
    except ValueError:
        pass
    if row["stage"] != LANDING:
        return row["raw"]
    path = row["source_file"]
    cells = format.cells(row["raw"])
    if cells and path not in headers:
        headers[path] = _header(dataset, format, path)
    if not cells or len(cells) != len(headers[path]):
        return row["raw"]
    named = zip(headers[path], cells, strict=True)
    return {column: cell or None for column, cell in named if column in dataset.landing.columns}


def _header(dataset: Dataset, format: Format, path: str) -> list[str]:
    """A file's columns in order: those of the YAML if it is gone, or has no header."""
    for arrival in find_arrivals(dataset, None) if dataset.landing.csv.header else ():
        if arrival.file.path == path:
            text = format.decoder(path)(next(read_blocks(arrival.file), b""), False)
            text = text.removeprefix(UTF8_MARK)
            header = format.header(text[format.preamble(text, 1, path) :])
            cells = format.cells(header.decode(errors="replace"))
            return [(cell or "").strip() for cell in cells or ()]
    return list(dataset.landing.columns)


def read_editable(path: Path) -> pa.Table:
    """Reads repaired rows.

    Args:
      path: as `write_editable` wrote it, with `row` repaired.

    Returns:
      Schema REPAIRS.

    Raises:
      FootpathError: a line is not what it should be; which one, and what to do.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise FootpathError(f"{path} cannot be read as UTF-8 text: {error}") from None
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    rows = [_repair(line, f"{path} line {number}") for number, line in numbered]
    if not rows:
        raise FootpathError(f"{path} has no row: `footpath quarantine show --out FILE` writes some")
    return pa.Table.from_pylist(rows, REPAIRS)


def _repair(line: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
        row = found["row"]
        row = json.loads(row) if isinstance(row, str) else row
        day = found.get("day")
        repair = {
            "source_file": str(found["source_file"]),
            "source_line": int(found["source_line"]),
            "stage": str(found["stage"]),
            "day": dt.date.fromisoformat(day) if day else None,
            "was": found.get("was"),
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FootpathError(
            f"{where} is not a row that `footpath quarantine show --out` wrote, or its `row` is "
            f'still text and must be an object such as {{"column": "value"}} ({error!r})'
        ) from None
    if not isinstance(row, dict):
        raise FootpathError(f'{where}: `row` must be an object such as {{"column": "value"}}')
    return repair | {"row": json.dumps(row)}
