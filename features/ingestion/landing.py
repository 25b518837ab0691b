"""Landing files -> fragments by event day, each file read once.

In:  files of the source (arrivals.py). Out, for each: in `landing/fragments/<event-day>/`
one Parquet file for every day that it has events of; in `quarantine/landing/` its rows that cannot
be read, have no timestamp, or fall on no day of the data set; in `landing/files/` the manifest,
published last, which makes the others count (manifest.py).

A file is read again only if its size or stamp changed, or what the YAML says of it. Many small
files share one pass over DuckDB. Rows of a file + those that `explode` added = rows in its
fragments + rows in quarantine: asserted on what was written.

A dated source's file holds no event later than the day after its arrival; an undated one without a
last day none later than tomorrow. What lies later is a broken clock and goes to quarantine.
"""

import datetime as dt
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file, remove_files
from contracts.lake.reading import stamps
from features.ingestion.archives import Archives
from features.ingestion.arrivals import Arrival, arrival_days, find_arrivals
from features.ingestion.cutting import CutFile, Cutter
from features.ingestion.manifest import (
    LandedFile,
    Manifest,
    all_manifests,
    file_id,
    fragment_name,
    fragments_folder,
    manifest_path,
    mapping_hash,
    quarantine_folder,
    quarantine_path,
    read_manifests,
    write_manifest,
)
from features.ingestion.mapping import OUT_OF_RANGE, TOO_LATE, UNDATED, UNREADABLE, check_mapping
from features.ingestion.repairs import repair_again
from features.ingestion.rows import ENOUGH_TO_JUDGE, RowReader

__all__ = ["LandedFile", "LandingReport", "arrival_days", "land", "new_arrivals"]

# What is read in one pass: so many bytes as they lie, so many files.
PASS_BYTES = 64 << 20
PASS_FILES = 256
PUBLISHERS = 8

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LandingReport:
    """What one landing run did. `rows`, `quarantined` and `late` are of the files it read."""

    files_read: int
    files_skipped: int
    rows: int
    quarantined: int
    late: int  # rows of an event day before the file's arrival day
    days: list[dt.date]  # event days whose rows changed
    files: list[LandedFile]  # those that were read


@dataclass
class _Run:
    """A landing run on its way."""

    dataset: Dataset
    lake: Lake
    connection: duckdb.DuckDBPyConnection
    archives: Archives
    known: dict[str, Manifest | None]  # by path; as it is now
    refused: set[str]  # names of what lies in quarantine
    landed: list[Manifest] = field(default_factory=list)
    days: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)


def land(
    dataset: Dataset, lake: Lake, days: list[dt.date] | None, progress: Progress | None = None
) -> LandingReport:
    """Reads the landing files that are new or have changed.

    Args:
      dataset: says where files land and what their columns mean.
      lake: gets fragments, manifests and quarantine.
      days: arrival days (local days of the data set) whose files are read; None reads all. An
        undated source is always read whole.
      progress: is told (files done, files to do).

    Raises:
      FootpathError: there is no file; the YAML has a wrong expression; or files are broken, which
        are named, and the others are published all the same.
    """
    arrivals = find_arrivals(dataset, days)
    mapping = mapping_hash(dataset)
    # One run at a time: another one would sweep what this one publishes.
    with lake.locked("landing"), connect() as connection, Archives() as archives:
        check_mapping(connection, dataset)
        known = _known(lake, arrivals)
        todo = [a for a in arrivals if not _is_known(a, known[a.file.path], mapping)]
        todo.sort(key=lambda arrival: arrival.file.place)
        refused = set(stamps(quarantine_folder(lake)))
        run = _Run(dataset, lake, connection, archives, known, refused)
        done = 0
        for batch in _passes(todo):
            _land_pass(run, batch, mapping)
            done += len(batch)
            if progress:
                progress(done, len(todo))
        for manifest, changed in repair_again(connection, dataset, lake):
            run.known[manifest.path] = manifest
            run.days |= changed
        _sweep(run)
    _raise_faults(run, len(todo))
    return LandingReport(
        files_read=len(run.landed),
        files_skipped=len(arrivals) - len(run.landed),
        rows=sum(file.rows for file in run.landed),
        quarantined=sum(file.quarantined for file in run.landed),
        late=sum(file.late for file in run.landed),
        days=sorted(map(dt.date.fromisoformat, run.days)),
        files=[LandedFile.of(file) for file in run.landed],
    )


def new_arrivals(dataset: Dataset, lake: Lake, arrivals: list[Arrival]) -> list[Arrival]:
    """Returns those of some landing files that were not read as they lie there."""
    mapping, known = mapping_hash(dataset), all_manifests(lake)
    return [a for a in arrivals if not _is_known(a, known.get(file_id(a.file.path)), mapping)]


def _known(lake: Lake, arrivals: list[Arrival]) -> dict[str, Manifest | None]:
    """Returns the manifest of each file, by path."""
    paths = [arrival.file.path for arrival in arrivals]
    return dict(zip(paths, read_manifests(lake, list(map(file_id, paths))).values(), strict=True))


def _is_known(arrival: Arrival, manifest: Manifest | None, mapping: str) -> bool:
    """Tells whether a file was read as it lies there, by this mapping."""
    now = (arrival.file.size, arrival.file.stamp, mapping)
    return manifest is not None and (manifest.size, manifest.stamp, manifest.mapping) == now


def _passes(todo: list[Arrival]) -> Iterator[list[Arrival]]:
    """Cuts the files into passes."""
    batch: list[Arrival] = []
    size = 0
    for arrival in todo:
        if batch and (size + arrival.file.size > PASS_BYTES or len(batch) == PASS_FILES):
            yield batch
            batch, size = [], 0
        batch.append(arrival)
        size += arrival.file.size
    if batch:
        yield batch


def _land_pass(run: _Run, batch: list[Arrival], mapping: str) -> None:
    """Reads files, writes what becomes of them to staging, and publishes it file by file."""
    files = [arrival.file for arrival in batch]
    reader = RowReader(run.connection, run.dataset.landing, files, archives=run.archives)
    cutter = Cutter(run.connection, run.dataset, batch)
    for _ in reader.chunks():
        cutter.add_rows()
    manifests = _manifests(run.dataset, batch, reader, cutter, mapping)
    with run.lake.staging() as folder, ThreadPoolExecutor(PUBLISHERS) as pool:
        cuts = cutter.write(sorted(manifests), folder)
        for number in cuts:
            _check_sum(manifests[number], cuts[number])
            digests = {str(day): [d.content, d.lines] for day, d in cuts[number].digests.items()}
            manifests[number] = replace(manifests[number], digests=digests)
        # The disk's answer to each fsync is waited for side by side.
        list(pool.map(lambda n: _publish(run, manifests[n], cuts[n], folder), cuts))
    for manifest in manifests.values():
        _note(run, manifest)
    run.faults += [fault for _, fault in sorted(reader.faults.items())]


def _manifests(
    dataset: Dataset, batch: list[Arrival], reader: RowReader, cutter: Cutter, mapping: str
) -> dict[int, Manifest]:
    """Counts where the rows of each file went, and finds the files with too few usable rows."""
    counts, added, most = cutter.counts(), cutter.added(), dataset.quality.max_refused_share
    manifests = {}
    for number in [n for n in range(len(batch)) if n not in reader.faults]:
        arrival, rows = batch[number], reader.facts[number].rows
        days = counts.get(number, {})
        rules = (UNREADABLE, UNDATED, OUT_OF_RANGE, TOO_LATE)
        refused = {rule: days.pop(rule, 0) for rule in rules}
        unusable = refused[UNREADABLE] + refused[UNDATED]
        share = unusable / max(rows + added.get(number, 0), 1)
        if rows >= ENOUGH_TO_JUDGE and (share == 1 or share > most):
            what = f"none of its {rows:,} rows becomes a dated event"
            if share < 1:
                what = (
                    f"{unusable:,} of its {rows:,} rows cannot be read or dated ({share:.1%}, and "
                    f"{most:.1%} may be: quality.max_refused_share)"
                )
            reader.faults[number] = (
                f"{arrival.file.path}: {what} ({cutter.example(number)}): mend "
                f"events.timestamp in the YAML, or ask for the file again"
            )
            continue
        manifests[number] = Manifest(
            path=arrival.file.path,
            size=arrival.file.size,
            stamp=arrival.file.stamp,
            content_hash=reader.digests[number],
            mapping=mapping,
            arrival=arrival.instant.isoformat() if arrival.instant else None,
            arrival_day=arrival.day.isoformat() if arrival.day else None,
            rows=rows,
            days=days,
            added=added.get(number, 0),
            timezone=dataset.timezone,
            **refused,
        )
    return manifests


def _check_sum(manifest: Manifest, cut: CutFile) -> None:
    """Asserts that no row was lost or made."""
    assert manifest.rows + manifest.added == cut.fragment_rows + cut.quarantine_rows, (
        f"{manifest.path}: {manifest.rows} rows were read and {manifest.added} added, "
        f"{cut.fragment_rows} are in fragments and {cut.quarantine_rows} in quarantine"
    )


def _publish(run: _Run, manifest: Manifest, cut: CutFile, folder: Path) -> None:
    """Makes one file's parts visible.

    Killed before the manifest is out, the old parts count, and the file will be read again.
    """
    lake, identity = run.lake, file_id(manifest.path)
    for day, staged in cut.fragments.items():
        target = fragments_folder(lake) / str(day) / fragment_name(identity, manifest.version)
        publish_file(staged, target)
    refused = quarantine_path(lake, identity)
    if cut.quarantine:
        publish_file(cut.quarantine, refused)
    elif refused.name in run.refused:
        remove_files([refused])
    staged = folder / f"{identity}.json"
    write_manifest(manifest, staged)
    publish_file(staged, manifest_path(lake, identity))


def _note(run: _Run, manifest: Manifest) -> None:
    """Puts a landed file into the report, unless its content was known."""
    old, run.known[manifest.path] = run.known[manifest.path], manifest
    if old is None or old.version != manifest.version:
        run.days |= manifest.changed_days(old)
        run.landed.append(manifest)


def _sweep(run: _Run) -> None:
    """Removes the fragments of these files that do not count: replaced, or of a killed run."""
    versions = {
        file_id(path): manifest.version if manifest else None
        for path, manifest in run.known.items()
    }
    gone = []
    for path in fragments_folder(run.lake).glob("*/*.parquet"):
        identity, _, version = path.stem.partition("-")
        if identity in versions and version != versions[identity]:
            gone.append(path)
    remove_files(gone)


def _raise_faults(run: _Run, files: int) -> None:
    """Raises one sentence for all files that were refused, or if nothing at all was usable."""
    if run.faults:
        more = f"; and {len(run.faults) - 3} more" if len(run.faults) > 3 else ""
        raise FootpathError(
            f"{len(run.faults)} of {files} landing files cannot be used "
            f"(the others are landed): {'; '.join(run.faults[:3])}{more}"
        )
    rows = sum(file.rows for file in run.landed)
    if rows >= ENOUGH_TO_JUDGE and not any(file.days for file in run.landed):
        start, end = run.dataset.partitions.start, run.dataset.partitions.end
        raise FootpathError(
            f"none of the {rows:,} rows of {len(run.landed)} landing files falls on a day of data "
            f"set '{run.dataset.name}' ({start} to {end or 'now'}): mend partitions or "
            f"events.timestamp in the YAML; quarantine/landing has the rows"
        )
