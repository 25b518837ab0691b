"""Mended rows -> rows of their landing file, in the place of those that they replace.

In:  what came of a landing file (parts.py), and mended rows (schema REPAIRS of repairs.py).
Out: the parts with the mended rows in them.

A row that could not be read or dated replaces all that came of its line, and goes through the
YAML's mapping. A row that broke rules of the gate lies in a fragment: it is found by its line and
content, and its replacement is an event already.
"""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.base.errors import FootpathError
from contracts.base.sql import literal, name
from contracts.config.dataset import Dataset
from contracts.config.source import EventMapping
from contracts.lake.schemas import EVENTS, QUARANTINE
from features.ingestion.arrivals import Arrival
from features.ingestion.cutting import Cutter
from features.ingestion.files import SourceFile
from features.ingestion.manifest import Manifest
from features.ingestion.parts import Parts, put, without
from features.ingestion.rows import RowReader


def replace_lines(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    manifest: Manifest,
    parts: Parts,
    repairs: pa.Table,
    folder: Path,
) -> tuple[int, int]:
    """Replaces what came of whole lines; returns how many rows, and how many are refused again."""
    is_there = pc.is_in(repairs["source_line"], pc.unique(parts.quarantine["source_line"]))
    repairs = repairs.filter(is_there)
    if not len(repairs):
        return 0, 0
    lines = repairs["source_line"]
    made = _map(connection, dataset, manifest, repairs, folder)
    before = parts.rows
    parts.quarantine = without(parts.quarantine, lines)
    if dataset.events.explode:
        # Some pieces of the line may be events already, and come anew.
        parts.fragments = {day: without(rows, lines) for day, rows in parts.fragments.items()}
    gone = before - parts.rows
    put(parts, made)
    # A line that became several rows, or no longer does, changes what `explode` has added.
    parts.added += made.rows - gone
    return len(repairs), len(pc.unique(made.quarantine["source_line"]))


def replace_events(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    manifest: Manifest,
    parts: Parts,
    repairs: pa.Table,
    folder: Path,
) -> int:
    """Replaces events by their line and content; returns how many."""
    kept = []
    for day in pc.unique(repairs["day"]).to_pylist():
        if day not in parts.fragments:
            continue
        wanted = repairs.filter(pc.equal(repairs["day"], pa.scalar(day, pa.date32())))
        places, used = _find(connection, dataset, parts.fragments[day], wanted)
        is_kept = pc.invert(pc.is_in(pa.array(range(len(parts.fragments[day]))), places))
        parts.fragments[day] = parts.fragments[day].filter(is_kept)
        kept.append(wanted.take(used))
    found = pa.concat_tables([repairs.slice(0, 0), *kept])
    if not len(found):
        return 0
    made = _map(connection, _of_events(dataset), manifest, found, folder)
    if len(made.quarantine):
        first = made.quarantine.to_pylist()[0]
        raise FootpathError(
            f"the event that is to replace line {first['source_line']} of {manifest.path} is none: "
            f"{first['detail']}: mend its row; nothing of this file was replaced"
        )
    put(parts, made)
    return len(found)


def _find(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, rows: pa.Table, repairs: pa.Table
) -> tuple[pa.Array, pa.Array]:
    """Matches repairs with rows of the same line and content, each row once.

    Returns:
      Places of the rows that are replaced; places of the repairs that replace them.
    """
    raw = ", ".join(f"{literal(column)}: {name(column)}" for column in EVENTS.names)
    connection.register("fragment_rows", rows.append_column("spot", pa.array(range(len(rows)))))
    connection.register("repair_rows", repairs.append_column("nr", pa.array(range(len(repairs)))))
    number = "row_number() OVER (PARTITION BY source_line, was ORDER BY"
    matched = connection.sql(
        f"SELECT spot, nr FROM (SELECT *, {number} spot) AS again FROM (SELECT spot, source_line, "
        f"{content_of(dataset, f'to_json({{{raw}}})::VARCHAR')} AS was FROM fragment_rows "
        "SEMI JOIN repair_rows USING (source_line))) "
        f"JOIN (SELECT nr, source_line, was, {number} nr) AS again FROM repair_rows) "
        "USING (source_line, was, again)"
    ).to_arrow_table()
    return pc.unique(matched["spot"]), pc.unique(matched["nr"])


def content_of(dataset: Dataset, raw: str) -> str:
    """Returns the SQL of a hash of an event's content, given the SQL of the event as JSON.

    Where ids are made of the content, they are not part of it.
    """
    if dataset.events.event_id:
        return f"md5({raw})"
    return f"""md5(json_merge_patch({raw}, '{{"event_id":null}}')::VARCHAR)"""


def _of_events(dataset: Dataset) -> Dataset:
    """Returns the data set as if its landing rows were events."""
    columns = {"timestamp": "TIMESTAMPTZ", "value": "DOUBLE"}
    columns = {c: columns.get(c, "VARCHAR") for c in EVENTS.names if c != "properties"}
    columns["properties"] = "MAP(VARCHAR, VARCHAR)"
    as_is = {column: name(column) for column in columns if column != "properties"}
    keys = {key: f"properties[{literal(key)}]" for key in dataset.events.properties}
    events = EventMapping.model_validate(as_is | {"properties": keys})
    landing = {"format": "jsonl", "columns": columns, "optional": list(columns)}
    return dataset.model_copy(
        update={"events": events, "landing": dataset.landing.model_copy(update=landing)}
    )


def _map(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    manifest: Manifest,
    repairs: pa.Table,
    folder: Path,
) -> Parts:
    """Maps mended rows as rows of their landing file, at the lines of what they replace."""
    folder.mkdir(parents=True)
    rows = folder / "rows.jsonl"
    rows.write_text("".join(f"{row}\n" for row in repairs["row"].to_pylist()), encoding="utf-8")
    file = SourceFile(manifest.path, str(rows), rows.stat().st_size, "")
    columns = list(dataset.landing.columns)
    table = dataset.landing.model_copy(update={"format": "jsonl", "optional": columns})
    # The name of the original would say how it is compressed; these rows are plain.
    reader = RowReader(connection, table, [replace(file, path=rows.name)])
    day = dt.date.fromisoformat(manifest.arrival_day) if manifest.arrival_day else None
    instant = dt.datetime.fromisoformat(manifest.arrival) if manifest.arrival else None
    cutter = Cutter(connection, dataset, [Arrival(file, day, instant)])
    for _ in reader.chunks():
        cutter.add_rows()
    if reader.faults:
        raise FootpathError(f"the mended rows of {manifest.path}: {reader.faults[0]}")
    numbers = pa.array(range(1, len(repairs) + 1), pa.int64())
    lines = pa.table({"number": numbers, "line": repairs["source_line"]})
    connection.register("repaired_lines", lines)
    connection.execute(
        "UPDATE landed SET source_line = line FROM repaired_lines WHERE source_line = number"
    )
    cut = cutter.write([0], folder)[0]
    refused = pq.read_table(cut.quarantine) if cut.quarantine else QUARANTINE.empty_table()
    fragments = {day: pq.read_table(path) for day, path in cut.fragments.items()}
    return Parts(fragments, refused, cutter.added().get(0, 0))
