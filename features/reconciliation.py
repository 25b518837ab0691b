"""Rows in = published + quarantined + repeats: proved for a whole lake, at any time.

In:  the manifests of landing files; the footers of their fragments, of the published events, and of
what lies in quarantine. Out: the sums, and a sentence for every place where a row was lost or made.

Reading footers proves that nothing went missing since it was counted. A recount also proves that
what the events left out were repeats: it counts the different events in the fragments by grouping,
and not by the query that had removed the repeats.
"""

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path

import duckdb

from contracts.base.batches import chunks
from contracts.base.sql import names
from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.reading import read_metadata
from contracts.lake.schemas import BUILT_FROM, EVENTS, ROWS_STAGED
from features.ingestion.manifest import (
    Manifest,
    file_id,
    fragment_name,
    fragments_folder,
    quarantine_path,
    side_by_side,
)
from features.provenance import digest_inputs, parse_inputs, rows_only
from features.staleness import fragments_by_day, readable_manifests

# Fragment rows that one query of a recount groups.
RECOUNT_ROWS = 5_000_000

Progress = Callable[[int, int], None]


@dataclass
class Accounts:
    """Where the rows of all landing files are."""

    files: int = 0
    rows: int = 0  # in the files
    added: int = 0  # by `events.explode`
    refused: int = 0  # at landing: unreadable, undated, out of range, too late
    waiting: int = 0  # on days that are not built, or due
    repeats: int = 0
    quarantined: int = 0  # by the gate
    published: int = 0
    waiting_days: list[dt.date] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def balance(self) -> int:
        """What came in less what is accounted for: zero, or rows were lost or made."""
        known = self.refused + self.waiting + self.repeats + self.quarantined + self.published
        return self.rows + self.added - known

    def figures(self) -> dict[str, int]:
        """Returns the sums by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.type is int}


def take_stock(
    dataset: Dataset, lake: Lake, recount: bool = False, progress: Progress | None = None
) -> Accounts:
    """Accounts for every row of every landing file that was read.

    Args:
      dataset: says whether events have ids.
      lake: is only read.
      recount: also counts the different events of every built day anew; reads the fragments whole.
      progress: is told (days done, days to do) of a recount.

    Raises:
      FootpathError: a landing file was read by another release.
    """
    manifests = readable_manifests(lake)
    accounts = Accounts(files=len(manifests))
    _count_files(lake, manifests, accounts)
    built = _count_days(lake, manifests, accounts)
    if recount:
        _recount(dataset, lake, built, accounts, progress)
    if accounts.balance and not accounts.faults:
        accounts.faults.append(f"{accounts.balance:,} rows are not accounted for")
    return accounts


def _count_files(lake: Lake, manifests: dict[str, Manifest], accounts: Accounts) -> None:
    """Holds what each manifest says against its fragments and its quarantine."""
    parts: list[tuple[Manifest, str, Path, int]] = []
    for identity, manifest in manifests.items():
        accounts.rows += manifest.rows
        accounts.added += manifest.added
        accounts.refused += manifest.quarantined
        if manifest.rows + manifest.added != sum(manifest.days.values()) + manifest.quarantined:
            accounts.faults.append(
                f"{manifest.path}: its manifest says {manifest.rows:,} rows and {manifest.added:,} "
                f"added, {sum(manifest.days.values()):,} on days and {manifest.quarantined:,} "
                f"refused: {_again(lake, manifest)}"
            )
        for day, rows in manifest.days.items():
            path = fragments_folder(lake) / day / fragment_name(identity, manifest.version)
            parts.append((manifest, f"of {day}", path, rows))
        if manifest.quarantined:
            path = quarantine_path(lake, identity)
            parts.append((manifest, "in quarantine", path, manifest.quarantined))
    for (manifest, what, path, rows), found in zip(
        parts, _row_counts(part[2] for part in parts), strict=True
    ):
        if found != rows:
            there = "is gone" if found is None else f"has {found:,}"
            accounts.faults.append(
                f"{manifest.path}: {rows:,} rows {what} were written, and {path} {there}: "
                f"{_again(lake, manifest)}"
            )


def _again(lake: Lake, manifest: Manifest) -> str:
    path = lake.table("landing") / "files" / f"{file_id(manifest.path)}.json"
    return f"remove {path} and materialize landing, so that the file is read again"


def _count_days(
    lake: Lake, manifests: dict[str, Manifest], accounts: Accounts
) -> dict[dt.date, int]:
    """Holds what each day got against what it has; returns built days with rows but repeats."""
    delivered: dict[dt.date, int] = {}
    for manifest in manifests.values():
        for day, rows in manifest.days.items():
            day = dt.date.fromisoformat(day)
            delivered[day] = delivered.get(day, 0) + rows
    fragments = fragments_by_day(manifests)
    published = lake.days("events")
    objects = [lake.day("events", day) for day in published]
    footers = dict(zip(published, side_by_side(read_metadata, objects), strict=True))
    refused = dict(zip(published, _row_counts(_refused(lake, published)), strict=True))
    built = {}
    for day in sorted(delivered.keys() | footers.keys()):
        rows, footer = delivered.get(day, 0), footers.get(day)
        told = (footer.metadata or {}) if footer else {}
        inputs = parse_inputs(told.get(BUILT_FROM))
        rows_now = rows_only(digest_inputs(fragments.get(day, {})))
        if footer is None or rows_only(inputs) != rows_now:
            accounts.waiting += rows
            accounts.waiting_days.append(day)
            continue
        staged, broken = int(told[ROWS_STAGED]), refused[day] or 0
        accounts.repeats += rows - staged
        accounts.quarantined += broken
        accounts.published += footer.num_rows
        built[day] = staged
        if staged != footer.num_rows + broken or staged > rows:
            accounts.faults.append(
                f"events {day}: {rows:,} rows were delivered, {staged:,} without repeats; "
                f"{footer.num_rows:,} are published and {broken:,} in quarantine: "
                f"materialize events of the day again"
            )
    return built


def _recount(
    dataset: Dataset,
    lake: Lake,
    built: dict[dt.date, int],
    accounts: Accounts,
    progress: Progress | None,
) -> None:
    """Counts the different events of each built day, straight from its fragments."""
    done, manifests = 0, readable_manifests(lake)
    fragments = fragments_by_day(manifests)
    with connect() as connection:
        for days in chunks(built.items(), RECOUNT_ROWS):
            paths = [
                str(fragments_folder(lake) / str(day) / fragment_name(identity, version))
                for day in days
                for identity in fragments.get(day, {})
                for version in [manifests[identity].version]
            ]
            found = _different(connection, dataset, paths) if paths else {}
            accounts.faults += [
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
    """Returns how many different events fragments hold, by day (as `ingestion/events.py`)."""
    rows = "read_parquet($paths, filename = true)"
    day = "parse_filename(parse_dirpath(filename))::DATE AS day"
    if dataset.events.event_id:
        query = (
            f"SELECT {day}, count(DISTINCT event_id) + count(*) FILTER (event_id IS NULL) "
            f"FROM {rows} GROUP BY ALL"
        )
    else:
        content = names(f.name for f in EVENTS if f.name != "event_id")
        query = (
            f"SELECT day, sum(most) FROM (SELECT day, max(n) AS most FROM (SELECT {day}, {content},"
            f" source_file, count(*) AS n FROM {rows} GROUP BY ALL) GROUP BY day, {content}) "
            "GROUP BY day"
        )
    found = connection.execute(query, {"paths": paths}).fetchall()
    return {day: int(count) for day, count in found}


def _refused(lake: Lake, days: list[dt.date]) -> list[Path]:
    return [lake.table("quarantine") / "events" / f"{day}.parquet" for day in days]


def _row_counts(paths: Iterable[Path]) -> list[int | None]:
    """Returns the rows of Parquet objects from their footers; None for one that is not there."""
    return side_by_side(_row_count, list(paths))


def _row_count(path: Path) -> int | None:
    try:
        return read_metadata(path).num_rows
    except FileNotFoundError:
        return None
