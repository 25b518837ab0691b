"""What is known of each landing file that was read, and which fragments are its own.

In:  `landing/files/<file-id>.json`. Out: manifests, and the fragments of event days that count.

The manifest is the commit. A file's fragments carry in their name the version of what was read, so
that new ones lie beside old ones; publishing the manifest makes the new ones count and the old ones
not, in one step. A fragment that no manifest names is left from a run that was killed, or about to
be published: nobody reads it.
"""

import datetime as dt
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from contracts.base.hashing import hash_json
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.reading import parse_json, read_texts, sizes, stamps
from features.ingestion.digests import Digest

# Raise it when the same file would be cut into other fragments than before.
LANDING_FORMAT = 1

READERS = 16


@dataclass(frozen=True)
class Manifest:
    """One landing file as it was read, and where its rows went. Days are ISO dates."""

    path: str  # as SourceFile.path
    size: int
    stamp: str
    content_hash: str
    mapping: str  # hash of what in the YAML decides how rows become events
    arrival: str | None  # ISO instant
    arrival_day: str | None
    rows: int
    unreadable: int
    undated: int
    out_of_range: int
    days: dict[str, int]  # event day -> rows in its fragment
    too_late: int = 0
    added: int = 0  # rows that `events.explode` made beyond those of the file
    repairs: str = ""  # stands for the mended rows among them (repairs.py)
    repaired: int = 0  # refused rows that a mended one has replaced
    digests: dict[str, list[str]] = field(default_factory=dict)  # event day -> content, lines
    timezone: str = ""  # in which its days are cut

    @property
    def quarantined(self) -> int:
        """Rows that became no event."""
        return self.unreadable + self.undated + self.out_of_range + self.too_late

    @property
    def late(self) -> int:
        """Rows of an event day before the day on which the file arrived."""
        return sum(n for day, n in self.days.items() if self.arrival_day and day < self.arrival_day)

    @property
    def version(self) -> str:
        """What the names of this manifest's fragments carry."""
        return version_of(self.content_hash + self.repairs, self.mapping)

    def digest(self, day: str) -> Digest:
        """Returns what stands for the rows of an event day's fragment, and for when the day is."""
        # One of another release has none: then every day changes with the file.
        content, lines = self.digests.get(day, (self.version, self.version))
        # The same rows in another zone are other features: their windows end at another midnight.
        return Digest(f"{content} {self.timezone}".rstrip(), lines)

    def changed_days(self, old: "Manifest | None") -> set[str]:
        """Returns the event days whose rows are not those of an older manifest."""
        if old is None:
            return set(self.days)
        both = self.days.keys() & old.days.keys()
        same = {day for day in both if self.digest(day).content == old.digest(day).content}
        return (self.days.keys() | old.days.keys()) - same


@dataclass(frozen=True)
class LandedFile:
    """Where the rows of one landing file went: what a manifest tells of it, with days as dates."""

    path: str
    arrival_day: dt.date | None  # None where the source is not dated
    rows: int
    unreadable: int
    undated: int
    out_of_range: int
    late: int
    days: dict[dt.date, int]  # event day -> rows
    too_late: int = 0
    added: int = 0  # rows that `events.explode` made beyond those of the file

    @classmethod
    def of(cls, manifest: Manifest) -> "LandedFile":
        """Returns what a manifest tells."""
        day = manifest.arrival_day
        return cls(
            path=manifest.path,
            arrival_day=dt.date.fromisoformat(day) if day else None,
            rows=manifest.rows,
            unreadable=manifest.unreadable,
            undated=manifest.undated,
            out_of_range=manifest.out_of_range,
            late=manifest.late,
            days={dt.date.fromisoformat(day): rows for day, rows in manifest.days.items()},
            too_late=manifest.too_late,
            added=manifest.added,
        )


@dataclass(frozen=True)
class Fragment:
    """The rows of one landing file that fall on one event day."""

    day: dt.date
    path: Path
    size: int
    identity: str  # of the landing file
    digest: Digest  # of its rows
    source_file: str
    arrival: str  # orders deliveries: ISO instant, empty where the source is not dated


def version_of(content_hash: str, mapping: str) -> str:
    """Returns the version of a file's content as one mapping cuts it."""
    return hash_json([content_hash, mapping])


def mapping_hash(dataset: Dataset) -> str:
    """Returns a hash of what in the YAML decides how a file is cut into fragments."""
    parts = {
        "format": LANDING_FORMAT,
        "timezone": dataset.timezone,
        "partitions": dataset.partitions.model_dump(mode="json"),
        "landing": dataset.landing.model_dump(mode="json", exclude={"url"}),
        "events": dataset.events.model_dump(mode="json"),
        "lateness": dataset.lateness.model_dump(mode="json"),
    }
    return hash_json(parts)


def file_id(path: str) -> str:
    """Returns the name under which a landing file's parts lie in the lake."""
    return hash_json(path)


def manifest_path(lake: Lake, identity: str) -> Path:
    """Returns where a landing file's manifest lies."""
    return files_folder(lake) / f"{identity}.json"


def files_folder(lake: Lake) -> Path:
    """Returns the folder of manifests."""
    return lake.table("landing") / "files"


def quarantine_path(lake: Lake, identity: str) -> Path:
    """Returns where a landing file's refused rows lie."""
    return quarantine_folder(lake) / f"{identity}.parquet"


def quarantine_folder(lake: Lake) -> Path:
    """Returns the folder of landing files' refused rows."""
    return lake.table("quarantine") / "landing"


def fragments_folder(lake: Lake) -> Path:
    """Returns the folder of fragments, one folder an event day below it."""
    return lake.table("landing") / "fragments"


def fragment_name(identity: str, version: str) -> str:
    """Returns a fragment's file name."""
    return f"{identity}-{version}.parquet"


def read_manifest(lake: Lake, identity: str) -> Manifest | None:
    """Returns a landing file's manifest; None if it was not read, or by another release."""
    return read_manifests(lake, [identity])[identity]


def read_manifests(lake: Lake, identities: list[str]) -> dict[str, Manifest | None]:
    """Returns the manifests of landing files by file id, as `read_manifest` does."""
    paths = [manifest_path(lake, identity) for identity in identities]
    texts = zip(identities, paths, read_texts(paths), strict=True)
    return {
        identity: None if text is None else _parse(path, text) for identity, path, text in texts
    }


def _parse(path: Path, text: str) -> Manifest | None:
    try:
        return Manifest(**parse_json(path, text))
    except TypeError:
        return None


def all_manifests(lake: Lake) -> dict[str, Manifest | None]:
    """Returns all manifests by file id, None for one of another release.

    Those that this process has read before are not read anew.
    """
    folder = files_folder(lake)
    found = sorted(stamps(folder, "*.json").items())
    read = side_by_side(lambda item: _manifest(folder / item[0], item[1]), found)
    return {name.removesuffix(".json"): known for (name, _), known in zip(found, read, strict=True)}


def side_by_side(read: Callable[[Any], Any], items: Sequence) -> list:
    """Reads many small objects, each a request where the lake is on S3; keeps their order."""
    found: list = [None] * len(items)
    with ThreadPoolExecutor(READERS) as pool:
        # A task for each reader, not for each item: most are remembered and take no time.
        parts = pool.map(lambda n: [read(item) for item in items[n::READERS]], range(READERS))
        for n, part in enumerate(parts):
            found[n::READERS] = part
    return found


@lru_cache(maxsize=50_000)
def _manifest(path: Path, stamp: str) -> Manifest | None:  # noqa: ARG001 - changed: read again
    return _parse(path, path.read_text())


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Writes a manifest to staging."""
    path.write_text(json.dumps(asdict(manifest), indent=2) + "\n")


def committed_fragments(lake: Lake, days: list[dt.date]) -> list[Fragment]:
    """Returns the fragments of event days that a manifest names, by day and name."""
    folders = [fragments_folder(lake) / day.isoformat() for day in days]
    with ThreadPoolExecutor(READERS) as pool:  # on S3 each is a request
        listed = list(pool.map(sizes, folders))
    identities = {name.partition("-")[0] for of_day in listed for name in of_day}
    manifests = read_manifests(lake, sorted(identities))
    found = []
    for day, folder, of_day in zip(days, folders, listed, strict=True):
        for name, size in of_day.items():
            identity, _, version = name.removesuffix(".parquet").partition("-")
            manifest = manifests[identity]
            if manifest and manifest.version == version:
                file, arrival = manifest.path, manifest.arrival or ""
                digest = manifest.digest(day.isoformat())
                found.append(Fragment(day, folder / name, size, identity, digest, file, arrival))
    return found
