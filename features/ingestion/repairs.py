"""Refused rows, mended by hand -> their landing files, as if delivered with these rows mended.

In:  mended rows, each with the file and line of the row that it replaces (repair_files.py
reads them). Out: new fragments, quarantine and manifest of these files; and in `repairs/` what was
mended, so that it is done again when a file is read anew as it was.

Mended rows keep the file and the line of what
they replace, so that what is a repeat, and that every row is accounted for, is decided as for any
landing file. A replacement whose row is not there (it was replaced before, or the file has changed
since) does nothing, and so replaying twice is harmless.

The manifest is the commit, as for landing: killed before it is out, the old parts count.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_json
from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from contracts.lake.reading import read_table
from features.ingestion.manifest import (
    Manifest,
    file_id,
    mapping_hash,
    read_manifest,
    read_manifests,
)
from features.ingestion.parts import (
    publish_parts,
    read_parts,
    refused_counts,
    refused_path,
    repairs_folder,
    show_refused,
)
from features.ingestion.replacing import replace_events, replace_lines

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
            _, found = _repair_file(connection, dataset, lake, manifest, rows, keep=True)
            replaced, again = replaced + found.replaced, again + found.refused_again
            days |= set(found.days)
    return RepairReport(replaced, again, len(repairs) - replaced, sorted(days))


def repair_again(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, lake: Lake
) -> Iterator[tuple[Manifest, set[str]]]:
    """Does the repairs of files that were read anew and lie there as they did.

    Whatever run has read them: it may have been killed before it came to this.

    Yields:
      The manifest of each file that was repaired, and its event days with other rows.
    """
    batches: dict[str, list[Path]] = {}
    for path in sorted(lake.table("repairs").glob("*/*.parquet")):
        batches.setdefault(path.parent.name, []).append(path)
    known = read_manifests(lake, [folder.partition("-")[0] for folder in batches])
    mapping = mapping_hash(dataset)
    for folder, of_file in batches.items():
        manifest = known[folder.partition("-")[0]]
        if manifest is None or manifest.mapping != mapping:
            continue  # it will be read anew
        if repairs_folder(lake, manifest).name != folder:
            continue  # of content that is no longer there
        if of_file[-1].stem.endswith(f"-{manifest.repairs}"):
            show_refused(lake, manifest, read_table(refused_path(lake, manifest)))
            continue
        for batch in of_file:
            rows = read_table(batch)
            manifest, _ = _repair_file(connection, dataset, lake, manifest, rows, keep=False)
        yield manifest, manifest.changed_days(known[folder.partition("-")[0]])


def _repair_file(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    lake: Lake,
    old: Manifest,
    repairs: pa.Table,
    keep: bool,
) -> tuple[Manifest, RepairReport]:
    """Repairs one landing file, in one step; returns its manifest too."""
    if old.mapping != mapping_hash(dataset):
        raise FootpathError(
            f"{old.path} was landed by another mapping than the YAML has now: replay without a "
            f"file first, which lands it anew, then look at what is still refused"
        )
    parts = read_parts(lake, old)
    of_landing = pc.equal(repairs["stage"], LANDING)
    with lake.staging() as folder:
        lines, again = replace_lines(
            connection, dataset, old, parts, repairs.filter(of_landing), folder / "rows"
        )
        others = repairs.filter(pc.invert(of_landing))
        events = replace_events(connection, dataset, old, parts, others, folder / "events")
        if not lines and not events:
            if old.repairs:  # a replay that was killed may have left them as they were
                show_refused(lake, old, parts.quarantine)
            return old, RepairReport(0, 0, len(repairs), [])
        assert parts.rows == old.rows + parts.added, f"{old.path}: a repair lost or made rows"
        digest = hash_json([old.repairs, str(repairs.to_pylist())])
        new = replace(
            old,
            repairs=digest,
            repaired=old.repaired + lines - again + events,
            added=parts.added,
            days={str(day): len(rows) for day, rows in sorted(parts.fragments.items())},
            digests=parts.digests,
            **refused_counts(parts.quarantine),
        )
        if keep:
            kept = repairs_folder(lake, old)
            batches = len(list(kept.glob("*.parquet")))
            publish_table(lake, repairs, kept / f"{batches:06}-{digest}.parquet")
        publish_parts(lake, old, new, parts, folder)
    days = sorted(map(dt.date.fromisoformat, new.changed_days(old)))
    return new, RepairReport(lines + events, again, len(repairs) - lines - events, days)
