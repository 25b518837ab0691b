"""Reconciliation: rows in = published + quarantined + duplicates, proved for a whole lake.

In:  the manifests of landing files; the footers of their fragments, of the published events, and of
what lies in quarantine. Out: the sums, and a sentence for every place where a row was lost or made.

Reading footers proves that nothing went missing since it was counted. A recount also proves that
what the events left out were duplicates: it counts the different events in the fragments by
grouping, and not by the query that had removed the duplicates.
"""

import datetime as dt
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path

import duckdb

from contracts.base.batches import chunks
from contracts.base.sql import names, parquet
from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.reading import read_metadata, side_by_side
from contracts.lake.schemas import BUILT_FROM, EVENT_FIELDS, ROWS_STAGED
from features.ingestion.manifest import (
    Manifest,
    fragment_path,
    manifest_path,
    quarantine_path,
    readable_manifests,
)
from features.provenance import digest_inputs, parse_inputs, rows_only
from features.staleness import fragments_by_day

# Fragment rows that one query of a recount groups.
RECOUNT_ROWS = 5_000_000

Progress = Callable[[int, int], None]


@dataclass
class Reconciliation:
    """Where the rows of all landing files are."""

    files: int = 0
    rows: int = 0  # in the files
    added: int = 0  # by `events.explode`
    refused: int = 0  # at landing: unreadable, undated, out of range, too late
    forgotten: int = 0  # of users who were forgotten
    waiting: int = 0  # on days that are not built, or stale
    duplicates: int = 0
    quarantined: int = 0  # by the gate
    published: int = 0
    waiting_days: list[dt.date] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def balance(self) -> int:
        """What came in less what is accounted for: zero, or rows were lost or made."""
        known = self.refused + self.forgotten + self.waiting + self.duplicates
        return self.rows + self.added - known - self.quarantined - self.published

    def figures(self) -> dict[str, int]:
        """The sums by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.type is int}


def reconcile(
    dataset: Dataset, lake: Lake, recount: bool = False, progress: Progress | None = None
) -> Reconciliation:
    """Accounts for every row of every landing file that was read.

    Args:
      dataset: tells whether events have ids.
      lake: is only read.
      recount: also counts the different events of every built day anew; reads the fragments whole.
      progress: is given (days done, days to do) of a recount.

    Raises:
      FootpathError: a landing file was read by another release.
    """
    manifests = readable_manifests(lake)
    sums = Reconciliation(files=len(manifests))
    _count_files(lake, manifests, sums)
    built = _count_days(lake, manifests, sums)
    if recount:
        _recount(dataset, lake, manifests, built, sums, progress)
    if sums.balance and not sums.faults:
        sums.faults.append(f"{sums.balance:,} rows are not accounted for")
    return sums


def _count_files(lake: Lake, manifests: dict[str, Manifest], sums: Reconciliation) -> None:
    """Holds each manifest against its fragments and its quarantine."""
    parts: list[tuple[Manifest, str, Path, int]] = []
    for manifest in manifests.values():
        sums.rows += manifest.rows
        sums.added += manifest.added
        sums.refused += manifest.quarantined
        sums.forgotten += manifest.forgotten
        on_days = sum(manifest.days.values())
        known = on_days + manifest.quarantined + manifest.forgotten
        if manifest.rows + manifest.added != known:
            sums.faults.append(
                f"{manifest.path}: its manifest has {manifest.rows:,} rows and {manifest.added:,} "
                f"added, {on_days:,} on days, {manifest.quarantined:,} refused and "
                f"{manifest.forgotten:,} forgotten: {_again(lake, manifest)}"
            )
        for day, rows in manifest.days.items():
            parts.append((manifest, f"of {day}", fragment_path(lake, manifest, day), rows))
        if manifest.quarantined:
            path = quarantine_path(lake, manifest)
            parts.append((manifest, "in quarantine", path, manifest.quarantined))
    counts = _row_counts([path for _, _, path, _ in parts])
    for (manifest, what, path, rows), found in zip(parts, counts, strict=True):
        if found != rows:
            there = "is gone" if found is None else f"has {found:,}"
            sums.faults.append(
                f"{manifest.path}: {rows:,} rows {what} were written, and {path} {there}: "
                f"{_again(lake, manifest)}"
            )


def _again(lake: Lake, manifest: Manifest) -> str:
    path = manifest_path(lake, manifest.identity)
    return f"remove {path} and materialize landing, so that the file is read again"


def _count_days(
    lake: Lake, manifests: dict[str, Manifest], sums: Reconciliation
) -> dict[dt.date, int]:
    """Holds each day's fragments against its events; returns the distinct rows of built days."""
    delivered: Counter[dt.date] = Counter()
    for manifest in manifests.values():
        delivered.update(manifest.days)
    fragments = fragments_by_day(manifests)
    published = lake.days("events")
    objects = [lake.day("events", day) for day in published]
    footers = dict(zip(published, side_by_side(read_metadata, objects), strict=True))
    quarantine = lake.table("quarantine") / "events"
    refused = _row_counts([quarantine / f"{day}.parquet" for day in published])
    refused = dict(zip(published, refused, strict=True))
    built = {}
    for day in sorted(delivered.keys() | footers.keys()):
        rows, footer = delivered[day], footers.get(day)
        metadata = (footer.metadata or {}) if footer else {}
        inputs = parse_inputs(metadata.get(BUILT_FROM))
        rows_now = rows_only(digest_inputs(fragments.get(day, {})))
        if footer is None or rows_only(inputs) != rows_now:
            sums.waiting += rows
            sums.waiting_days.append(day)
            continue
        staged, broken = int(metadata[ROWS_STAGED]), refused[day] or 0
        sums.duplicates += rows - staged
        sums.quarantined += broken
        sums.published += footer.num_rows
        built[day] = staged
        if staged != footer.num_rows + broken or staged > rows:
            sums.faults.append(
                f"events {day}: {rows:,} rows were delivered, {staged:,} without duplicates; "
                f"{footer.num_rows:,} are published and {broken:,} in quarantine: "
                f"materialize events of the day again"
            )
    return built


def _recount(
    dataset: Dataset,
    lake: Lake,
    manifests: dict[str, Manifest],
    built: dict[dt.date, int],
    sums: Reconciliation,
    progress: Progress | None,
) -> None:
    """Counts the different events of each built day, straight from its fragments."""
    done, fragments = 0, fragments_by_day(manifests)
    with connect() as connection:
        for days in chunks(built.items(), RECOUNT_ROWS):
            paths = [
                str(fragment_path(lake, manifests[identity], day))
                for day in days
                for identity in fragments.get(day, {})
            ]
            found = _different(connection, dataset, paths) if paths else {}
            sums.faults += [
                f"events {day}: its fragments hold {found.get(day, 0):,} different events, and "
                f"{built[day]:,} were kept: materialize events of the day again"
                for day in days
                if found.get(day, 0) != built[day]
            ]
            done += len(days)
            if progress:
                progress(done, len(built))


def _different(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, paths: list[str]
) -> dict[dt.date, int]:
    """How many different events fragments hold, by day (as `ingestion/dedup.py`)."""
    rows = parquet("$paths", "filename = true")
    day = "parse_filename(parse_dirpath(filename))::DATE AS day"
    if dataset.events.event_id:
        query = (
            f"SELECT {day}, count(DISTINCT event_id) + count(*) FILTER (event_id IS NULL) "
            f"FROM {rows} GROUP BY ALL"
        )
    else:
        content = names(f for f in [*EVENT_FIELDS, "source_sequence"] if f != "event_id")
        query = (
            f"SELECT day, sum(most) FROM (SELECT day, max(n) AS most FROM (SELECT {day}, {content},"
            f" source_file, count(*) AS n FROM {rows} GROUP BY ALL) GROUP BY day, {content}) "
            "GROUP BY day"
        )
    found = connection.execute(query, {"paths": paths}).fetchall()
    return {day: int(count) for day, count in found}


def _row_counts(paths: list[Path]) -> list[int | None]:
    """Row counts of Parquet objects, from their footers; None for one that is not there."""
    return side_by_side(_row_count, paths)


def _row_count(path: Path) -> int | None:
    try:
        return read_metadata(path).num_rows
    except FileNotFoundError:
        return None
