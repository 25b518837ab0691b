"""Refused rows, repaired by hand -> their landing files, as if delivered with these rows repaired.

In:  repaired rows, each with the file and line of the row that it replaces (editable.py reads
them). Out: new fragments, quarantine and manifest of these files; and in `repairs/` the repaired
rows, so that they are put in again when a file is read anew as it was.

A row that could not be read or dated replaces all that came of its line, and goes through the
YAML's mapping. A row that broke rules of the gate lies in a fragment: it is found by its line and
content, and its replacement is an event already. Repaired rows keep the file, the line and the
element of what they replace, so that what is a duplicate, which of two events of one instant is the
first, and that every row is accounted for, is decided as for any landing file. A replacement whose
row is not there (it was replaced before, or the file has changed since) does nothing, and so
replaying twice is harmless.

The manifest is the commit, as for landing: killed before it is out, the old fragments count. What
a repaired file still has in quarantine lies beside its repairs, named by them; the object below
`quarantine/landing` is a copy, which a replay brings up to date.
"""

import datetime as dt
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_json
from contracts.base.sql import literal, name
from contracts.config.dataset import Dataset
from contracts.config.source import EventMapping
from contracts.lake.engine import connect
from contracts.lake.forgotten import Forgotten, read_forgotten
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table, remove_files
from contracts.lake.reading import read_table
from contracts.lake.schemas import EVENT_FIELDS, FRAGMENT, QUARANTINE
from features.expressions import struct_of
from features.ingestion.listing import Arrival
from features.ingestion.manifest import (
    Manifest,
    file_id,
    fragment_path,
    mapping_hash,
    publish_manifest,
    quarantine_path,
    read_manifests,
)
from features.ingestion.mapping import REFUSALS
from features.ingestion.partition import Partitioner
from features.ingestion.reader import RowReader
from features.ingestion.streams import SourceFile
from features.provenance import digest_of

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
class FileContents:
    """All that came of the rows of one landing file."""

    fragments: dict[dt.date, pa.Table]
    quarantine: pa.Table
    added: int  # by `explode`
    forgotten: int  # rows of users who were forgotten, which lie nowhere

    @property
    def rows(self) -> int:
        """All of them, refused or not."""
        return sum(map(len, self.fragments.values())) + len(self.quarantine) + self.forgotten

    def put(self, made: "FileContents") -> None:
        """Puts rows among those of the same file, in the order of lines and elements."""
        for day, rows in made.fragments.items():
            there = self.fragments.get(day, FRAGMENT.empty_table())
            self.fragments[day] = _by_line([there, rows], FRAGMENT)
        self.quarantine = _by_line([self.quarantine, made.quarantine], QUARANTINE)
        self.fragments = {day: rows for day, rows in self.fragments.items() if len(rows)}
        self.forgotten += made.forgotten


def repair(dataset: Dataset, lake: Lake, repairs: pa.Table) -> RepairReport:
    """Puts repaired rows in the place of refused ones.

    Args:
      dataset: maps landing rows to events.
      lake: gets the files' new fragments.
      repairs: schema REPAIRS.

    Raises:
      FootpathError: a repaired event is none or of a user who was forgotten, or a file was never
        landed; nothing of it is done.
    """
    replaced = again = 0
    days: set[dt.date] = set()
    with lake.locked("landing"), connect() as connection:
        for path in pc.unique(repairs["source_file"]).to_pylist():
            rows = repairs.filter(pc.equal(repairs["source_file"], path))
            (manifest,) = read_manifests(lake, [file_id(path)]).values()
            if manifest is None:
                raise FootpathError(f"{path} was never landed here, so none of its rows is refused")
            _, found = _repair_file(connection, dataset, lake, manifest, rows)
            replaced, again = replaced + found.replaced, again + found.refused_again
            days |= set(found.days)
    return RepairReport(replaced, again, len(repairs) - replaced, sorted(days))


def repair_again(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, lake: Lake
) -> Iterator[tuple[Manifest, set[dt.date]]]:
    """Repeats the repairs of files that were read anew and lie there as they did.

    Whatever run has read them: it may have been killed before it came to this.

    Yields:
      The manifest of each file that was repaired, and its event days with other rows.
    """
    batches: dict[str, list[Path]] = {}
    for path in sorted(lake.table("repairs").glob("*/*.parquet")):
        batches.setdefault(path.parent.name, []).append(path)
    known = read_manifests(lake, {folder.partition("-")[0] for folder in batches})
    mapping = mapping_hash(dataset)
    for folder, of_file in batches.items():
        old = manifest = known[folder.partition("-")[0]]
        if old is None or manifest is None or old.mapping != mapping:
            continue  # it will be read anew
        if repairs_folder(lake, old).name != folder:
            continue  # of content that is no longer there
        if of_file[-1].stem.endswith(f"-{old.repairs}"):
            show_refused(lake, old, read_table(refused_path(lake, old)))
            continue
        for batch in of_file:
            rows, name = read_table(batch), batch.stem.partition("-")[2]
            manifest, _ = _repair_file(connection, dataset, lake, manifest, rows, name)
        yield manifest, manifest.changed_days(old)


def _repair_file(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    lake: Lake,
    old: Manifest,
    repairs: pa.Table,
    kept_as: str = "",
) -> tuple[Manifest, RepairReport]:
    """Repairs one landing file, in one step; returns its manifest too.

    Args:
      connection: DuckDB.
      dataset: maps landing rows to events.
      lake: gets the file's new fragments.
      old: the file's manifest.
      repairs: schema REPAIRS.
      kept_as: the hash by which these repairs are kept already; else they are kept now.
    """
    if old.mapping != mapping_hash(dataset):
        raise FootpathError(
            f"{old.path} was landed by another mapping than the YAML has now: replay without a "
            f"file first, which lands it anew, then look at what is still refused"
        )
    contents = _read_contents(lake, old)
    before = dict(contents.fragments)
    of_landing = pc.equal(repairs["stage"], LANDING)
    with lake.staging() as folder:
        mapper = _Mapper(connection, dataset, old, folder, read_forgotten(lake))
        lines, again = _replace_lines(mapper, contents, repairs.filter(of_landing))
        events = _replace_events(mapper, contents, repairs.filter(pc.invert(of_landing)))
        if not lines and not events:
            if old.repairs:  # a replay that was killed may have left them as they were
                show_refused(lake, old, contents.quarantine)
            return old, RepairReport(0, 0, len(repairs), [])
        assert contents.rows == old.rows + contents.added, f"{old.path}: a repair lost or made rows"
        if contents.forgotten > old.forgotten and not kept_as:
            raise FootpathError(
                f"{contents.forgotten - old.forgotten} of the repaired rows of {old.path} are of "
                "users who were forgotten: take them out; nothing of this file was replaced"
            )
        digest = kept_as or hash_json([old.repairs, str(repairs.to_pylist())])
        # What is left of a user who was forgotten is a fragment without rows, and a digest.
        contents.fragments |= {day: rows for day, rows in before.items() if not len(rows)} | (
            contents.fragments
        )
        fragments = dict(sorted(contents.fragments.items()))
        rules = [broken[0] for broken in contents.quarantine["broken"].to_pylist()]
        changes = {
            "repairs": digest,
            "repaired": old.repaired + lines - again + events,
            "added": contents.added,
            "forgotten": contents.forgotten,
            "days": {day: len(rows) for day, rows in fragments.items()},
            "digests": {
                day: old.digests[day] if rows.equals(before.get(day)) else digest_of(rows)
                for day, rows in fragments.items()
            },
        }
        new = old.model_copy(update=changes | {rule: rules.count(rule) for rule in REFUSALS})
        if not kept_as:
            kept = repairs_folder(lake, old)
            batches = len(list(kept.glob("*.parquet")))
            publish_table(lake, repairs, kept / f"{batches:06}-{digest}.parquet")
        _publish(lake, old, new, contents, folder)
    days = sorted(new.changed_days(old))
    return new, RepairReport(lines + events, again, len(repairs) - lines - events, days)


def _read_contents(lake: Lake, manifest: Manifest) -> FileContents:
    """Reads all that came of a landing file."""
    refused = refused_path(lake, manifest)
    return FileContents(
        {day: read_table(fragment_path(lake, manifest, day)) for day in manifest.days},
        read_table(refused) if refused.exists() else QUARANTINE.empty_table(),
        manifest.added,
        manifest.forgotten,
    )


def _publish(
    lake: Lake, old: Manifest, new: Manifest, contents: FileContents, folder: Path
) -> None:
    """Makes new contents visible, the manifest last, and removes the old ones."""
    for day, rows in contents.fragments.items():
        publish_table(lake, rows, fragment_path(lake, new, day))
    publish_table(lake, contents.quarantine, refused_path(lake, new))
    publish_manifest(lake, new, folder)
    show_refused(lake, new, contents.quarantine)
    for day in old.days:
        fragment_path(lake, old, day).unlink(missing_ok=True)


def repairs_folder(lake: Lake, manifest: Manifest) -> Path:
    """Folder of the repairs of a file's content, in the order in which they were made."""
    return lake.table("repairs") / f"{manifest.identity}-{manifest.content_hash}"


def refused_path(lake: Lake, manifest: Manifest) -> Path:
    """Object of the refused rows that a manifest counts."""
    if manifest.repairs:
        return repairs_folder(lake, manifest) / "refused" / f"{manifest.repairs}.parquet"
    return quarantine_path(lake, manifest)


def show_refused(lake: Lake, manifest: Manifest, refused: pa.Table) -> None:
    """Puts the refused rows of a repaired file where people look, unless they are there."""
    shown = quarantine_path(lake, manifest)
    there = read_table(shown) if shown.exists() else refused.slice(0, 0)
    if there.equals(refused):
        return
    if len(refused):
        publish_table(lake, refused, shown)
    else:
        remove_files([shown])


@dataclass(frozen=True)
class _Mapper:
    """Maps repaired rows as rows of their landing file, in the places of what they replace."""

    connection: duckdb.DuckDBPyConnection
    dataset: Dataset
    manifest: Manifest
    folder: Path
    forgotten: Forgotten

    def map(self, rows: pa.ChunkedArray, places: pa.Table, dataset: Dataset) -> FileContents:
        """What repaired rows become by the mapping of a data set: this one, or `_of_events`.

        Args:
          rows: as JSON.
          places: of each row, the columns that say where it stands, and are not mapped.
          dataset: whose mapping.
        """
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        file = folder / "rows.jsonl"
        file.write_text("".join(f"{row}\n" for row in rows.to_pylist()), encoding="utf-8")
        size, path = file.stat().st_size, self.manifest.path
        columns = list(dataset.landing.columns)
        table = dataset.landing.model_copy(update={"format": "jsonl", "optional": columns})
        # The name of the original would say how it is compressed; these rows are plain.
        reader = RowReader(self.connection, table, [SourceFile(file.name, str(file), size, "")])
        original = SourceFile(path, str(file), size, "")
        arrival = Arrival(original, self.manifest.arrival_day, self.manifest.arrival)
        partitioner = Partitioner(self.connection, dataset, [arrival], self.forgotten)
        for _ in reader.chunks():
            partitioner.add_rows()
        if reader.faults:
            raise FootpathError(f"the repaired rows of {path}: {reader.faults[0]}")
        numbers = pa.array(range(1, len(rows) + 1), pa.int64())
        self.connection.register("repaired_places", places.append_column("number", numbers))
        kept = ", ".join(f"{column} = repaired_places.{column}" for column in places.column_names)
        self.connection.execute(
            f"UPDATE landed SET {kept} FROM repaired_places WHERE landed.source_line = number"
        )
        counts, staged = partitioner.counts(), partitioner.write([0], folder)[0]
        refused = (
            pq.read_table(staged.quarantine) if staged.quarantine else QUARANTINE.empty_table()
        )
        fragments = {day: pq.read_table(path) for day, path in staged.fragments.items()}
        return FileContents(fragments, refused, counts[0].added, counts[0].forgotten)


# Where an event stands among those of its instant: its replacement stands there, too.
_PLACE = ["source_line", "source_element", "source_sequence"]


def _replace_lines(mapper: _Mapper, contents: FileContents, repairs: pa.Table) -> tuple[int, int]:
    """Replaces what came of whole lines; returns how many rows, and how many are refused again."""
    is_there = pc.is_in(repairs["source_line"], pc.unique(contents.quarantine["source_line"]))
    repairs = repairs.filter(is_there)
    if not len(repairs):
        return 0, 0
    lines = repairs["source_line"]
    made = mapper.map(repairs["row"], repairs.select(["source_line"]), mapper.dataset)
    before = contents.rows
    contents.quarantine = _without(contents.quarantine, lines)
    if mapper.dataset.events.explode:
        # Some elements of the line may be events already, and come anew.
        contents.fragments = {d: _without(rows, lines) for d, rows in contents.fragments.items()}
    gone = before - contents.rows
    contents.put(made)
    # A line that became several rows, or no longer does, changes what `explode` has added.
    contents.added += made.rows - gone
    return len(repairs), len(pc.unique(made.quarantine["source_line"]))


def _replace_events(mapper: _Mapper, contents: FileContents, repairs: pa.Table) -> int:
    """Replaces events by their line and content; returns how many."""
    kept, places = [], []
    for day in pc.unique(repairs["day"]).to_pylist():
        if day not in contents.fragments:
            continue
        rows = contents.fragments[day]
        wanted = repairs.filter(pc.equal(repairs["day"], pa.scalar(day, pa.date32())))
        gone, used = _find(mapper.connection, mapper.dataset, rows, wanted)
        places.append(rows.select(_PLACE).take(gone))
        contents.fragments[day] = rows.filter(pc.invert(pc.is_in(pa.array(range(len(rows))), gone)))
        kept.append(wanted["row"].take(used))
    if not sum(map(len, kept)):
        return 0
    found = pa.concat_tables(places)
    texts = pa.chunked_array([chunk for rows in kept for chunk in rows.chunks], pa.string())
    made = mapper.map(texts, found, _of_events(mapper.dataset))
    if len(made.quarantine):
        first = made.quarantine.to_pylist()[0]
        raise FootpathError(
            f"the event that is to replace line {first['source_line']} of {mapper.manifest.path} "
            f"is none: {first['detail']}: fix its row; nothing of this file was replaced"
        )
    contents.put(made)
    return len(found)


def _find(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, rows: pa.Table, repairs: pa.Table
) -> tuple[pa.Array, pa.Array]:
    """Matches repairs with rows of the same line and content, each row once.

    Returns:
      Places of the rows that are replaced; places of the repairs that replace them.
    """
    raw = f"to_json({struct_of(EVENT_FIELDS)})::VARCHAR"
    connection.register("fragment_rows", rows.append_column("spot", pa.array(range(len(rows)))))
    connection.register("repair_rows", repairs.append_column("nr", pa.array(range(len(repairs)))))
    number = "row_number() OVER (PARTITION BY source_line, was ORDER BY"
    matched = connection.sql(
        f"SELECT spot, nr FROM (SELECT *, {number} spot) AS again FROM (SELECT spot, source_line, "
        f"{content_of(dataset, raw)} AS was FROM fragment_rows "
        "SEMI JOIN repair_rows USING (source_line))) "
        f"JOIN (SELECT nr, source_line, was, {number} nr) AS again FROM repair_rows) "
        "USING (source_line, was, again)"
    ).to_arrow_table()
    return pc.unique(matched["spot"]), pc.unique(matched["nr"])


def content_of(dataset: Dataset, raw: str) -> str:
    """The SQL of a hash of an event's content, given the SQL of the event as JSON.

    Where ids are made of the content, they are not part of it.
    """
    if dataset.events.event_id:
        return f"md5({raw})"
    return f"""md5(json_merge_patch({raw}, '{{"event_id":null}}')::VARCHAR)"""


def _of_events(dataset: Dataset) -> Dataset:
    """The data set as if its landing rows were events."""
    columns = {"timestamp": "TIMESTAMPTZ", "value": "DOUBLE"}
    columns = {c: columns.get(c, "VARCHAR") for c in EVENT_FIELDS if c != "properties"}
    columns["properties"] = "MAP(VARCHAR, VARCHAR)"
    as_is = {column: name(column) for column in columns if column != "properties"}
    keys = {key: f"properties[{literal(key)}]" for key in dataset.events.properties}
    events = EventMapping.model_validate(as_is | {"properties": keys})
    landing = {"format": "jsonl", "columns": columns, "optional": list(columns)}
    return dataset.model_copy(
        update={"events": events, "landing": dataset.landing.model_copy(update=landing)}
    )


def _without(rows: pa.Table, lines: pa.ChunkedArray) -> pa.Table:
    """Rows but for those of some lines."""
    return rows.filter(pc.invert(pc.is_in(rows["source_line"], pc.unique(lines))))


def _by_line(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    rows = pa.concat_tables([table.select(schema.names).cast(schema) for table in tables])
    places = [("source_line", "ascending")]
    places += [("source_element", "ascending")] if "source_element" in schema.names else []
    return rows.take(pc.sort_indices(rows, sort_keys=places))  # stable
