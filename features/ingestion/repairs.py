"""Refused rows, mended by hand -> their landing files, as if delivered with these rows mended.

In:  mended rows, each with the file and line of the row that it replaces (repair_files.py
reads them). Out: new fragments, quarantine and manifest of these files; and in `repairs/` what was
mended, so that it is done again when a file is read anew as it was.

A row that could not be read or dated replaces all that came of its line, and goes through the
YAML's mapping. A row that broke rules of the gate lies in a fragment: it is found by its line and
content, and its replacement is an event already. Mended rows keep the file and the line of what
they replace, so that what is a repeat, and that every row is accounted for, is decided as for any
landing file. A replacement whose row is not there (it was replaced before, or the file has changed
since) does nothing, and so replaying twice is harmless.

The manifest is the commit, as for landing: killed before it is out, the old parts count. What a
repaired file still has in quarantine lies beside its repairs, named by them; the object below
`quarantine/landing` is a copy, which a replay brings up to date.
"""

import datetime as dt
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.dataset import Dataset
from contracts.engine import connect
from contracts.errors import FootpathError
from contracts.lake import (
    Lake,
    publish_file,
    publish_table,
    read_table,
    remove_files,
    write_parquet,
)
from contracts.source import EventMapping
from contracts.tables import EVENTS, FRAGMENT, QUARANTINE
from features.ingestion.arrivals import Arrival
from features.ingestion.cutting import Cutter
from features.ingestion.files import SourceFile
from features.ingestion.manifest import (
    Manifest,
    file_id,
    fragment_name,
    fragments_folder,
    manifest_path,
    mapping_hash,
    quarantine_path,
    read_manifest,
    read_manifests,
    write_manifest,
)
from features.ingestion.mapping import OUT_OF_RANGE, TOO_LATE, UNDATED, UNREADABLE
from features.ingestion.rows import RowReader
from features.sql import name, text

LANDING = "landing"

REPAIRS = pa.schema(
    [
        pa.field("source_file", pa.string(), nullable=False),
        pa.field("source_line", pa.int64(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),  # landing or events
        pa.field("day", pa.date32()),  # of the replaced event
        pa.field("was", pa.string()),  # content of the replaced event, as `content_of`
        pa.field("row", pa.string(), nullable=False),  # JSON: a landing row, or an event
    ]
)


@dataclass(frozen=True)
class RepairReport:
    """What a replay did."""

    replaced: int  # rows of quarantine that were replaced
    refused_again: int  # of these, rows that still cannot be read or dated
    unknown: int  # rows that replace nothing that is there
    days: list[dt.date]  # event days whose fragments changed


@dataclass
class _Parts:
    """What came of the rows of one landing file."""

    fragments: dict[dt.date, pa.Table]
    quarantine: pa.Table
    added: int

    @property
    def rows(self) -> int:
        return sum(map(len, self.fragments.values())) + len(self.quarantine)


def repair(dataset: Dataset, lake: Lake, repairs: pa.Table) -> RepairReport:
    """Puts mended rows in the place of refused ones.

    Args:
      dataset: maps landing rows to events.
      lake: gets the files' new parts.
      repairs: schema REPAIRS.

    Raises:
      FootpathError: a mended event is none, or a file was never landed; nothing of it is done.
    """
    replaced = again = 0
    days: set[dt.date] = set()
    with lake.locked("landing"), connect() as connection:
        for path in pc.unique(repairs["source_file"]).to_pylist():
            rows = repairs.filter(pc.equal(repairs["source_file"], path))
            manifest = read_manifest(lake, file_id(path))
            if manifest is None:
                raise FootpathError(f"{path} was never landed here, so none of its rows is refused")
            found = _repair_file(connection, dataset, lake, manifest, rows, keep=True)
            replaced, again = replaced + found.replaced, again + found.refused_again
            days |= set(found.days)
    return RepairReport(replaced, again, len(repairs) - replaced, sorted(days))


def repair_again(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, lake: Lake
) -> set[dt.date]:
    """Does the repairs of files that were read anew and lie there as they did; gives days.

    Whatever run has read them: it may have been killed before it came to this.
    """
    batches: dict[str, list[Path]] = {}
    for path in sorted(lake.table("repairs").glob("*/*.parquet")):
        batches.setdefault(path.parent.name, []).append(path)
    known = read_manifests(lake, [folder.partition("-")[0] for folder in batches])
    mapping, days = mapping_hash(dataset), set[dt.date]()
    for folder, of_file in batches.items():
        manifest = known[folder.partition("-")[0]]
        if manifest is None or manifest.mapping != mapping:
            continue  # it will be read anew
        if _folder(lake, manifest).name != folder:
            continue  # of content that is no longer there
        if of_file[-1].stem.endswith(f"-{manifest.repairs}"):
            _show_refused(lake, manifest, read_table(_refused_path(lake, manifest)))
            continue
        for batch in of_file:
            manifest = read_manifest(lake, file_id(manifest.path)) or manifest
            rows = read_table(batch)
            days |= set(_repair_file(connection, dataset, lake, manifest, rows, keep=False).days)
    return days


def _folder(lake: Lake, manifest: Manifest) -> Path:
    """Returns where the repairs of a file's content lie, in the order in which they were made."""
    return lake.table("repairs") / f"{file_id(manifest.path)}-{manifest.sha256[:16]}"


def _repair_file(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    lake: Lake,
    old: Manifest,
    repairs: pa.Table,
    keep: bool,
) -> RepairReport:
    """Repairs one landing file, in one step."""
    if old.mapping != mapping_hash(dataset):
        raise FootpathError(
            f"{old.path} was landed by another mapping than the YAML has now: replay without a "
            f"file first, which lands it anew, then look at what is still refused"
        )
    parts = _read_parts(lake, old)
    of_landing = pc.equal(repairs["stage"], LANDING)
    with lake.staging() as folder:
        lines, again = _replace_lines(
            connection, dataset, old, parts, repairs.filter(of_landing), folder / "rows"
        )
        others = repairs.filter(pc.invert(of_landing))
        events = _replace_events(connection, dataset, old, parts, others, folder / "events")
        if not lines and not events:
            if old.repairs:  # a replay that was killed may have left them as they were
                _show_refused(lake, old, parts.quarantine)
            return RepairReport(0, 0, len(repairs), [])
        assert parts.rows == old.rows + parts.added, f"{old.path}: a repair lost or made rows"
        digest = hashlib.sha256(f"{old.repairs}{repairs.to_pylist()}".encode()).hexdigest()[:16]
        new = replace(
            old,
            repairs=digest,
            repaired=old.repaired + lines - again + events,
            added=parts.added,
            days={str(day): len(rows) for day, rows in sorted(parts.fragments.items())},
            **_refused(parts.quarantine),
        )
        if keep:
            batches = len(list(_folder(lake, old).glob("*.parquet")))
            publish_table(lake, repairs, _folder(lake, old) / f"{batches:06}-{digest}.parquet")
        _publish(lake, old, new, parts, folder)
    days = {dt.date.fromisoformat(day) for day in old.days.keys() | new.days.keys()}
    return RepairReport(lines + events, again, len(repairs) - lines - events, sorted(days))


def _refused_path(lake: Lake, manifest: Manifest) -> Path:
    """Returns where the refused rows lie that a manifest speaks of."""
    if manifest.repairs:
        return _folder(lake, manifest) / "refused" / f"{manifest.repairs}.parquet"
    return quarantine_path(lake, file_id(manifest.path))


def _read_parts(lake: Lake, manifest: Manifest) -> _Parts:
    refused = _refused_path(lake, manifest)
    fragment = fragment_name(file_id(manifest.path), manifest.version)
    return _Parts(
        {
            dt.date.fromisoformat(day): read_table(fragments_folder(lake) / day / fragment)
            for day in manifest.days
        },
        read_table(refused) if refused.exists() else QUARANTINE.empty_table(),
        manifest.added,
    )


def _replace_lines(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    manifest: Manifest,
    parts: _Parts,
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
    parts.quarantine = _without(parts.quarantine, lines)
    if dataset.events.explode:
        # Some pieces of the line may be events already, and come anew.
        parts.fragments = {day: _without(rows, lines) for day, rows in parts.fragments.items()}
    gone = before - parts.rows
    _put(parts, made)
    # A line that became several rows, or no longer does, changes what `explode` has added.
    parts.added += made.rows - gone
    return len(repairs), len(pc.unique(made.quarantine["source_line"]))


def _replace_events(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    manifest: Manifest,
    parts: _Parts,
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
    _put(parts, made)
    return len(found)


def _find(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, rows: pa.Table, repairs: pa.Table
) -> tuple[pa.Array, pa.Array]:
    """Matches repairs with rows of the same line and content, each row once.

    Returns:
      Places of the rows that are replaced; places of the repairs that replace them.
    """
    raw = ", ".join(f"{text(column)}: {name(column)}" for column in EVENTS.names)
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
    keys = {key: f"properties[{text(key)}]" for key in dataset.events.properties}
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
) -> _Parts:
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
    return _Parts(fragments, refused, cutter.added().get(0, 0))


def _without(rows: pa.Table, lines: pa.ChunkedArray) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows["source_line"], pc.unique(lines))))


def _put(parts: _Parts, made: _Parts) -> None:
    """Puts rows among those of the same file, in the order of lines."""
    for day, rows in made.fragments.items():
        there = parts.fragments.get(day, FRAGMENT.empty_table())
        parts.fragments[day] = _by_line([there, rows], FRAGMENT)
    parts.quarantine = _by_line([parts.quarantine, made.quarantine], QUARANTINE)
    parts.fragments = {day: rows for day, rows in parts.fragments.items() if len(rows)}


def _by_line(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    rows = pa.concat_tables([table.select(schema.names).cast(schema) for table in tables])
    return rows.take(pc.sort_indices(rows["source_line"]))  # stable


def _refused(quarantine: pa.Table) -> dict[str, int]:
    """Counts refused rows by rule."""
    rules = [broken[0] for broken in quarantine["broken"].to_pylist()]
    return {rule: rules.count(rule) for rule in (UNREADABLE, UNDATED, OUT_OF_RANGE, TOO_LATE)}


def _publish(lake: Lake, old: Manifest, new: Manifest, parts: _Parts, folder: Path) -> None:
    """Makes the new parts visible, the manifest last, and removes the old ones."""
    identity = file_id(new.path)
    for day, rows in parts.fragments.items():
        staged = folder / f"{day}.parquet"
        write_parquet(rows, staged)
        target = fragments_folder(lake) / str(day) / fragment_name(identity, new.version)
        publish_file(staged, target)
    publish_table(lake, parts.quarantine, _refused_path(lake, new))
    staged = folder / f"{identity}.json"
    write_manifest(new, staged)
    publish_file(staged, manifest_path(lake, identity))
    _show_refused(lake, new, parts.quarantine)
    for day in old.days:
        path = fragments_folder(lake) / day / fragment_name(identity, old.version)
        path.unlink(missing_ok=True)


def _show_refused(lake: Lake, manifest: Manifest, refused: pa.Table) -> None:
    """Puts the refused rows of a repaired file where people look, unless they are there."""
    shown = quarantine_path(lake, file_id(manifest.path))
    there = read_table(shown) if shown.exists() else refused.slice(0, 0)
    if there.equals(refused):
        return
    if len(refused):
        publish_table(lake, refused, shown)
    else:
        remove_files([shown])
