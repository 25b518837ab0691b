"""Refused rows as a file that a person can mend, and back.

In:  rows of quarantine. Out: JSON lines, one a row: where it is from (`source_file`, `source_line`,
`stage`, `day`, `was`: leave these as they are), why it was refused (`broken`, `detail`), and `row`:
an object of the landing's columns, or for the stage `events` of an event's. Mend `row` and replay.
A line that is removed stays refused. A row that could not be taken apart stands as text, and is to
be written as an object.
"""

import csv
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.config.source import FileTable
from contracts.lake.engine import connect
from features.ingestion.arrivals import find_arrivals
from features.ingestion.files import read_blocks
from features.ingestion.repairs import LANDING, REPAIRS
from features.ingestion.replacing import content_of


def write_editable(dataset: Dataset, refused: pa.Table, path: Path) -> int:
    """Writes refused rows to a file that can be mended; returns how many.

    Args:
      dataset: says how landing rows are laid out.
      refused: schema QUARANTINE; rows of stopped days count as `events`.
      path: gets JSON lines.
    """
    headers: dict[str, list[str]] = {}
    with connect() as connection, open(path, "w", encoding="utf-8") as file:
        connection.register("refused", refused)
        was = content_of(dataset, "raw")
        rows = connection.sql(
            f"SELECT *, CASE WHEN stage = 'events' THEN {was} END AS was FROM refused"
        ).to_arrow_reader(10_000)
        for batch in rows:
            for row in batch.to_pylist():
                line = {key: row[key] for key in ("source_file", "source_line", "stage")}
                line |= {"day": row["day"] and str(row["day"]), "was": row["was"]}
                line |= {"broken": row["broken"], "detail": row["detail"]}
                line["row"] = _taken_apart(dataset, row, headers)
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return len(refused)


def _taken_apart(dataset: Dataset, row: dict[str, Any], headers: dict[str, list[str]]) -> Any:
    """Returns a refused row as an object, or as text where it cannot be taken apart."""
    try:
        found = json.loads(row["raw"])
        if isinstance(found, dict):
            return found
    except ValueError:
        pass
    landing = dataset.landing
    if row["stage"] != LANDING or landing.format != "csv":
        return row["raw"]
    path = row["source_file"]
    if path not in headers:
        headers[path] = _header(dataset, path)
    cells = next(_cells(landing, row["raw"]), [])
    if len(cells) != len(headers[path]):
        return row["raw"]
    named = zip(headers[path], cells, strict=True)
    return {column: cell or None for column, cell in named if column in landing.columns}


def _header(dataset: Dataset, path: str) -> list[str]:
    """Returns a CSV file's columns, in their order; those of the YAML if it is gone."""
    landing = dataset.landing
    if landing.csv.header:
        for arrival in find_arrivals(dataset, None):
            if arrival.file.path == path:
                block = next(read_blocks(arrival.file), b"")
                line = block.partition(b"\n")[0].decode(landing.csv.encoding, "replace")
                return [cell.strip() for cell in next(_cells(landing, line.lstrip("\ufeff")), [])]
    return list(landing.columns)


def _cells(table: FileTable, line: str) -> Iterator[list[str]]:
    delimiter, quote = table.csv.delimiter, table.csv.quote
    if len(delimiter) > 1:
        return iter([line.rstrip("\r\n").split(delimiter)])
    quoting = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    return csv.reader(
        [line.rstrip("\r\n")], delimiter=delimiter, quotechar=quote or None, quoting=quoting
    )


def read_editable(path: Path) -> pa.Table:
    """Reads mended rows.

    Args:
      path: as `write_editable` wrote it, with `row` mended.

    Returns:
      Schema REPAIRS.

    Raises:
      FootpathError: a line is not what it should be; says which and what to do.
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
