"""All that came of one landing file: read whole, changed, and published again.

In:  a file's manifest. Out: its fragments and refused rows as tables; and, changed, the new parts
and the new manifest, which is the commit.

What a repaired file still has in quarantine lies beside its repairs, named by them; the object
below `quarantine/landing` is a copy, which a replay brings up to date.
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file, publish_table, remove_files, write_parquet
from contracts.lake.reading import read_table
from contracts.lake.schemas import FRAGMENT, QUARANTINE
from features.ingestion.digests import digest_of
from features.ingestion.manifest import (
    Manifest,
    file_id,
    fragment_name,
    fragments_folder,
    manifest_path,
    quarantine_path,
    write_manifest,
)
from features.ingestion.mapping import OUT_OF_RANGE, TOO_LATE, UNDATED, UNREADABLE


@dataclass
class Parts:
    """What came of the rows of one landing file."""

    fragments: dict[dt.date, pa.Table]
    quarantine: pa.Table
    added: int

    @property
    def rows(self) -> int:
        """All of them, refused or not."""
        return sum(map(len, self.fragments.values())) + len(self.quarantine)

    @property
    def digests(self) -> dict[str, list[str]]:
        """What stands for the rows of each fragment, as a manifest has it."""
        found = {day: digest_of(rows) for day, rows in sorted(self.fragments.items())}
        return {str(day): [digest.content, digest.lines] for day, digest in found.items()}


def repairs_folder(lake: Lake, manifest: Manifest) -> Path:
    """Returns where the repairs of a file's content lie, in the order in which they were made."""
    return lake.table("repairs") / f"{file_id(manifest.path)}-{manifest.content_hash}"


def refused_path(lake: Lake, manifest: Manifest) -> Path:
    """Returns where the refused rows lie that a manifest speaks of."""
    if manifest.repairs:
        return repairs_folder(lake, manifest) / "refused" / f"{manifest.repairs}.parquet"
    return quarantine_path(lake, file_id(manifest.path))


def read_parts(lake: Lake, manifest: Manifest) -> Parts:
    """Reads all that came of a landing file."""
    refused = refused_path(lake, manifest)
    fragment = fragment_name(file_id(manifest.path), manifest.version)
    return Parts(
        {
            dt.date.fromisoformat(day): read_table(fragments_folder(lake) / day / fragment)
            for day in manifest.days
        },
        read_table(refused) if refused.exists() else QUARANTINE.empty_table(),
        manifest.added,
    )


def without(rows: pa.Table, lines: pa.ChunkedArray) -> pa.Table:
    """Returns rows but for those of some lines."""
    return rows.filter(pc.invert(pc.is_in(rows["source_line"], pc.unique(lines))))


def put(parts: Parts, made: Parts) -> None:
    """Puts rows among those of the same file, in the order of lines."""
    for day, rows in made.fragments.items():
        there = parts.fragments.get(day, FRAGMENT.empty_table())
        parts.fragments[day] = _by_line([there, rows], FRAGMENT)
    parts.quarantine = _by_line([parts.quarantine, made.quarantine], QUARANTINE)
    parts.fragments = {day: rows for day, rows in parts.fragments.items() if len(rows)}


def _by_line(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    rows = pa.concat_tables([table.select(schema.names).cast(schema) for table in tables])
    return rows.take(pc.sort_indices(rows["source_line"]))  # stable


def refused_counts(quarantine: pa.Table) -> dict[str, int]:
    """Counts refused rows by rule."""
    rules = [broken[0] for broken in quarantine["broken"].to_pylist()]
    return {rule: rules.count(rule) for rule in (UNREADABLE, UNDATED, OUT_OF_RANGE, TOO_LATE)}


def publish_parts(lake: Lake, old: Manifest, new: Manifest, parts: Parts, folder: Path) -> None:
    """Makes the new parts visible, the manifest last, and removes the old ones."""
    identity = file_id(new.path)
    for day, rows in parts.fragments.items():
        staged = folder / f"{day}.parquet"
        write_parquet(rows, staged)
        target = fragments_folder(lake) / str(day) / fragment_name(identity, new.version)
        publish_file(staged, target)
    publish_table(lake, parts.quarantine, refused_path(lake, new))
    staged = folder / f"{identity}.json"
    write_manifest(new, staged)
    publish_file(staged, manifest_path(lake, identity))
    show_refused(lake, new, parts.quarantine)
    for day in old.days:
        path = fragments_folder(lake) / day / fragment_name(identity, old.version)
        path.unlink(missing_ok=True)


def show_refused(lake: Lake, manifest: Manifest, refused: pa.Table) -> None:
    """Puts the refused rows of a repaired file where people look, unless they are there."""
    shown = quarantine_path(lake, file_id(manifest.path))
    there = read_table(shown) if shown.exists() else refused.slice(0, 0)
    if there.equals(refused):
        return
    if len(refused):
        publish_table(lake, refused, shown)
    else:
        remove_files([shown])
