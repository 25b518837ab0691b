"""Landing files -> fragments by event day, each file read once.

In:  files of the source (listing.py). Out, for each: in `landing/fragments/<event-day>/`
one Parquet file for every day that it has events of; in `quarantine/landing/` its rows that cannot
be read, have no timestamp, or fall on no day of the data set; in `landing/files/` the manifest,
published last, which makes the others count (manifest.py).

A file is read again only if its size or stamp changed, or what the YAML says of it. Many small
files share one pass over DuckDB: reader.py makes typed rows of them, partition.py events by day.
Rows of a file + those that `explode` added = rows in its fragments + rows in quarantine + rows of
users who were forgotten: asserted on what was written.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from contracts.base.batches import chunks
from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.forgotten import Forgotten, read_forgotten
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file, remove_files, side_by_side
from contracts.lake.reading import stamps
from features.ingestion.archives import Archives
from features.ingestion.listing import Arrival, find_arrivals
from features.ingestion.manifest import (
    LANDING_FORMAT,
    Manifest,
    all_manifests,
    file_id,
    fragment_path,
    fragments_folder,
    mapping_hash,
    publish_manifest,
    quarantine_path,
    read_manifests,
)
from features.ingestion.mapping import UNDATED, UNREADABLE, check_mapping
from features.ingestion.partition import FileCounts, Partitioner, StagedFile
from features.ingestion.reader import ENOUGH_TO_JUDGE, RowReader
from features.ingestion.refusals import accept, all_refusals, refuse
from features.ingestion.replay import repair_again

# What is read in one pass: so many bytes as they lie, so many files.
PASS_BYTES = 64 << 20
PASS_FILES = 256

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LandingReport:
    """What one landing run did. `rows`, `quarantined` and `late` are of the files it read."""

    files_skipped: int
    days: list[dt.date]  # event days whose rows changed
    files: list[Manifest]  # those that were read

    @property
    def files_read(self) -> int:
        """How many files were new or had changed."""
        return len(self.files)

    @property
    def rows(self) -> int:
        """Rows in these files."""
        return sum(file.rows for file in self.files)

    @property
    def quarantined(self) -> int:
        """Rows of these files that became no event."""
        return sum(file.quarantined for file in self.files)

    @property
    def late(self) -> int:
        """Rows of an event day before the file's arrival day."""
        return sum(file.late for file in self.files)


@dataclass
class _Run:
    """A landing run on its way."""

    dataset: Dataset
    lake: Lake
    connection: duckdb.DuckDBPyConnection
    archives: Archives
    forgotten: Forgotten
    mapping: str
    known: dict[str, Manifest | None]  # by file id; as it is now
    refused: set[str]  # names of what lies in quarantine
    landed: list[Manifest] = field(default_factory=list)
    days: set[dt.date] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)


def land(
    dataset: Dataset,
    lake: Lake,
    days: list[dt.date] | None,
    progress: Progress | None = None,
    only_new: bool = False,
) -> LandingReport:
    """Reads the landing files that are new or have changed.

    Args:
      dataset: defines where files land and what their columns mean.
      lake: gets fragments, manifests and quarantine.
      days: arrival days (local days of the data set) whose files are read; None reads all. An
        undated source is always read whole.
      progress: is given (files done, files to do).
      only_new: what was refused as it lies there is left alone (refusals.py).

    Raises:
      FootpathError: there is no file; the YAML has a wrong expression; users were forgotten and the
        key of their list is not set; or files are broken, which are named, and the others are
        published all the same.
    """
    arrivals = find_arrivals(dataset, days)
    mapping = mapping_hash(dataset)
    # One run at a time: another one would sweep what this one publishes.
    with lake.locked("landing"), connect() as connection, Archives() as archives:
        check_mapping(connection, dataset)
        known = read_manifests(lake, [file_id(arrival.file.path) for arrival in arrivals])
        todo = [arrival for arrival in arrivals if _is_new(arrival, known, mapping)]
        todo = unread(dataset, lake, todo).new if only_new else todo
        todo.sort(key=lambda arrival: arrival.file.place)
        refused = set(stamps(lake.table("quarantine") / "landing"))
        forgotten = read_forgotten(lake)
        run = _Run(dataset, lake, connection, archives, forgotten, mapping, known, refused)
        done = 0
        for batch in chunks(((a, a.file.size) for a in todo), PASS_BYTES, PASS_FILES):
            _land_apart(run, batch)
            done += len(batch)
            if progress:
                progress(done, len(todo))
        for manifest, changed in repair_again(connection, dataset, lake):
            run.known[manifest.identity] = manifest
            run.days |= changed
        _sweep(run)
    _raise_faults(run, len(todo))
    return LandingReport(len(arrivals) - len(run.landed), sorted(run.days), run.landed)


@dataclass(frozen=True)
class Unread:
    """Landing files that were not read as they lie there."""

    new: list[Arrival]
    in_vain: list[Arrival]  # refused as they lie there
    reasons: list[str]  # why, for each


def unread(dataset: Dataset, lake: Lake, arrivals: list[Arrival]) -> Unread:
    """Those of some landing files that were not read as they lie there: not yet, or in vain."""
    mapping, known, refusals = mapping_hash(dataset), all_manifests(lake), all_refusals(lake)
    found = Unread([], [], [])
    for arrival in arrivals:
        if not _is_new(arrival, known, mapping):
            continue
        refusal = refusals.get(file_id(arrival.file.path))
        if refusal and refusal.is_of(arrival, mapping):
            found.in_vain.append(arrival)
            found.reasons.append(refusal.reason)
        else:
            found.new.append(arrival)
    return found


def _is_new(arrival: Arrival, known: dict[str, Manifest | None], mapping: str) -> bool:
    """Whether a file was not read as it lies there, or by another mapping."""
    manifest = known.get(file_id(arrival.file.path))
    now = (arrival.file.size, arrival.file.stamp, mapping)
    return manifest is None or (manifest.size, manifest.stamp, manifest.mapping) != now


def _land_apart(run: _Run, batch: list[Arrival]) -> None:
    """Lands files in one pass; where that takes too much, each alone, so that one costs itself."""
    try:
        _land_pass(run, batch)
    except duckdb.OutOfMemoryException as error:
        if len(batch) > 1:
            for arrival in batch:
                _land_apart(run, [arrival])
            return
        path, reason = batch[0].file.path, str(error).splitlines()[0]
        fault = (
            f"{path} takes more memory, or room for what is spilled, than there is ({reason}): "
            f"split it, or raise FOOTPATH_MEMORY"
        )
        refuse(run.lake, batch[0], run.mapping, fault)
        run.faults.append(fault)


def _land_pass(run: _Run, batch: list[Arrival]) -> None:
    """Reads files, writes their fragments to staging, and publishes them file by file."""
    files = [arrival.file for arrival in batch]
    reader = RowReader(run.connection, run.dataset.landing, files, archives=run.archives)
    partitioner = Partitioner(run.connection, run.dataset, batch, run.forgotten)
    for _ in reader.chunks():
        partitioner.add_rows()
        partitioner.set_aside()
    counts = partitioner.counts()
    usable = _usable(run.dataset, batch, reader, partitioner, counts)
    with run.lake.staging() as folder:
        staged = partitioner.write(usable, folder)
        manifests = {
            number: _manifest(run, batch[number], reader, number, counts, staged[number])
            for number in usable
        }
        side_by_side(lambda n: _publish(run, manifests[n], staged[n], folder), usable)
    for number, fault in reader.faults.items():
        refuse(run.lake, batch[number], run.mapping, fault)
    accept(run.lake, [manifest.identity for manifest in manifests.values()])
    for manifest in manifests.values():
        old, run.known[manifest.identity] = run.known[manifest.identity], manifest
        if old is None or old.version != manifest.version:  # else its content was known
            run.days |= manifest.changed_days(old)
            run.landed.append(manifest)
    run.faults += [fault for _, fault in sorted(reader.faults.items())]


def _usable(
    dataset: Dataset,
    batch: list[Arrival],
    reader: RowReader,
    partitioner: Partitioner,
    counts: dict[int, FileCounts],
) -> list[int]:
    """Numbers of the files that can be used; the others are among the reader's faults."""
    for number, arrival in enumerate(batch):
        if number in reader.faults:
            continue
        if fault := too_few_usable(dataset, reader.facts[number].rows, counts[number]):
            reader.faults[number] = (
                f"{arrival.file.path}: {fault} ({partitioner.example(number)}): fix "
                f"events.timestamp in the YAML, or ask for the file again"
            )
    return [number for number in range(len(batch)) if number not in reader.faults]


def _manifest(
    run: _Run,
    arrival: Arrival,
    reader: RowReader,
    number: int,
    counts: dict[int, FileCounts],
    staged: StagedFile,
) -> Manifest:
    """Describes a file as it was read, and where its rows went: none was lost or made."""
    of_file, file = counts[number], arrival.file
    rows = reader.facts[number].rows
    assert rows + of_file.added == staged.rows + of_file.forgotten, (
        f"{file.path}: {rows} rows were read and {of_file.added} added, {staged.rows} are in "
        f"fragments and quarantine and {of_file.forgotten} of users who were forgotten"
    )
    return Manifest(
        format=LANDING_FORMAT,
        path=file.path,
        size=file.size,
        stamp=file.stamp,
        content_hash=reader.digests[number],
        mapping=run.mapping,
        arrival=arrival.instant,
        arrival_day=arrival.day,
        rows=rows,
        days=of_file.days,
        added=of_file.added,
        digests=staged.digests,
        timezone=run.dataset.timezone,
        forgotten=of_file.forgotten,
        **of_file.refused,
    )


def too_few_usable(dataset: Dataset, rows: int, counts: FileCounts) -> str:
    """Reason to refuse a file of which too few rows can be read and dated; empty without one."""
    most = dataset.quality.max_refused_share
    unusable = counts.refused[UNREADABLE] + counts.refused[UNDATED]
    share = unusable / max(rows + counts.added, 1)
    if rows < ENOUGH_TO_JUDGE or (share < 1 and share <= most):
        return ""
    if share == 1:
        return f"none of its {rows:,} rows becomes a dated event"
    return (
        f"{unusable:,} of its {rows:,} rows cannot be read or dated ({share:.1%}, and "
        f"{most:.1%} may be: quality.max_refused_share)"
    )


def _publish(run: _Run, manifest: Manifest, staged: StagedFile, folder: Path) -> None:
    """Makes one file's fragments and refused rows visible.

    Killed before the manifest is out, the old ones count, and the file will be read again.
    """
    for day, path in staged.fragments.items():
        publish_file(path, fragment_path(run.lake, manifest, day))
    refused = quarantine_path(run.lake, manifest)
    if staged.quarantine:
        publish_file(staged.quarantine, refused)
    elif refused.name in run.refused:
        remove_files([refused])
    publish_manifest(run.lake, manifest, folder)


def _sweep(run: _Run) -> None:
    """Removes the fragments of these files that do not count: replaced, or of a killed run."""
    versions = {identity: file.version if file else None for identity, file in run.known.items()}
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
            f"set '{run.dataset.name}' ({start} to {end or 'now'}): fix partitions or "
            f"events.timestamp in the YAML; quarantine/landing has the rows"
        )
