"""Manifest of a landing file that was read: where its rows went, and which fragments are its own.

In:  `landing/files/<file-id>.json`. Out: manifests, and the fragments of event days that count.

The manifest is the commit. A file's fragments carry in their name the version of what was read, so
that new ones lie beside old ones; publishing the manifest makes the new ones count and the old ones
not, in one step. A fragment that no manifest names is left from a run that was killed, or about to
be published: nobody reads it.
"""

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_json
from contracts.base.schema import Strict
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file
from contracts.lake.reading import parse_json, read_texts, side_by_side, sizes, stamps
from features.provenance import Digest

# Raise it when the same file would be partitioned into other fragments, or described otherwise:
# then all files are read anew.
LANDING_FORMAT: Literal[4] = 4


class Manifest(Strict):
    """One landing file as it was read, and where its rows went."""

    format: Literal[4]  # LANDING_FORMAT
    path: str  # as SourceFile.path
    size: int
    stamp: str
    content_hash: str  # of its bytes as they lie there
    mapping: str  # hash of what in the YAML decides how rows become events
    arrival: dt.datetime | None
    arrival_day: dt.date | None  # None where the source is not dated
    rows: int
    unreadable: int
    undated: int
    out_of_range: int
    days: dict[dt.date, int]  # event day -> rows in its fragment
    too_late: int
    added: int  # rows that `events.explode` made beyond those of the file
    digests: dict[dt.date, Digest]  # of the rows of each event day, forgotten ones among them
    timezone: str  # in which its days are cut
    repairs: str = ""  # hash of the repaired rows among them (replay.py)
    repaired: int = 0  # refused rows that a repaired one has replaced
    forgotten: int = 0  # rows of users who were forgotten: they are in no fragment or quarantine

    @property
    def identity(self) -> str:
        """Names the parts of this landing file in the lake."""
        return file_id(self.path)

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
        """Version of the file's content under one mapping, in the names of its fragments."""
        return hash_json([self.content_hash + self.repairs, self.mapping])

    def digest(self, day: dt.date) -> Digest:
        """Digest of an event day's fragment, and of when the day is."""
        content, lines = self.digests[day]
        # The same rows in another zone are other features: their windows end at another midnight.
        return Digest(f"{content} {self.timezone}", lines)

    def changed_days(self, old: "Manifest | None") -> set[dt.date]:
        """Event days whose rows are not those of an older manifest."""
        if old is None:
            return set(self.days)
        both = self.days.keys() & old.days.keys()
        same = {day for day in both if self.digest(day).content == old.digest(day).content}
        return (self.days.keys() | old.days.keys()) - same


@dataclass(frozen=True)
class Fragment:
    """The rows of one landing file that fall on one event day."""

    day: dt.date
    path: Path
    size: int
    manifest: Manifest

    @property
    def delivery(self) -> tuple[dt.datetime, str, str]:
        """Orders deliveries: by arrival, then by path in natural order, part-2 before part-10."""
        first = dt.datetime.min.replace(tzinfo=dt.UTC)
        path = self.manifest.path
        return self.manifest.arrival or first, _natural(path), path


def _natural(path: str) -> str:
    """A path as a text that sorts its numbers by their size: each has its length before it."""

    def sized(number: re.Match[str]) -> str:
        digits = number[0].lstrip("0")
        return f"{len(digits):04}{digits}"

    return re.sub("[0-9]+", sized, path)


def mapping_hash(dataset: Dataset) -> str:
    """Hash of what in the YAML decides how a file is partitioned into fragments."""
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
    """Name under which a landing file's parts lie in the lake."""
    return hash_json(path)


def manifests_folder(lake: Lake) -> Path:
    """Folder of manifests."""
    return lake.table("landing") / "files"


def manifest_path(lake: Lake, identity: str) -> Path:
    """Object of a landing file's manifest."""
    return manifests_folder(lake) / f"{identity}.json"


def quarantine_path(lake: Lake, manifest: Manifest) -> Path:
    """Object of a landing file's refused rows."""
    return lake.table("quarantine") / "landing" / f"{manifest.identity}.parquet"


def fragments_folder(lake: Lake) -> Path:
    """Folder of fragments, one folder an event day below it."""
    return lake.table("landing") / "fragments"


def fragment_path(lake: Lake, manifest: Manifest, day: dt.date) -> Path:
    """Object of a landing file's rows of one event day."""
    name = f"{manifest.identity}-{manifest.version}.parquet"
    return fragments_folder(lake) / day.isoformat() / name


def publish_manifest(lake: Lake, manifest: Manifest, folder: Path) -> None:
    """Commits what a landing file became: its fragments and refused rows are published before.

    Args:
      lake: gets the manifest.
      manifest: names the fragments that count from now on.
      folder: for staging.
    """
    staged = folder / f"{manifest.identity}.json"
    staged.write_text(manifest.model_dump_json(indent=2) + "\n")
    publish_file(staged, manifest_path(lake, manifest.identity))


def read_manifests(lake: Lake, identities: Iterable[str]) -> dict[str, Manifest | None]:
    """Manifests by file id; None for one that was not read, or by another release."""
    paths = {identity: manifest_path(lake, identity) for identity in identities}
    texts = zip(paths.items(), read_texts(list(paths.values())), strict=True)
    return {
        identity: None if text is None else _parse(path, text) for (identity, path), text in texts
    }


def _parse(path: Path, text: str) -> Manifest | None:
    try:
        return Manifest.model_validate(parse_json(path, text))
    except ValidationError:
        return None


def all_manifests(lake: Lake) -> dict[str, Manifest | None]:
    """All manifests by file id, None for one of another release.

    Those that this process has read before are not read anew.
    """
    folder = manifests_folder(lake)
    found = sorted(stamps(folder, "*.json").items())
    read = side_by_side(lambda item: _manifest(folder / item[0], item[1]), found)
    return {name.removesuffix(".json"): known for (name, _), known in zip(found, read, strict=True)}


@lru_cache(maxsize=50_000)
def _manifest(path: Path, stamp: str) -> Manifest | None:  # noqa: ARG001 - changed: read again
    return _parse(path, path.read_text())


def readable_manifests(lake: Lake) -> dict[str, Manifest]:
    """All manifests by file id.

    Raises:
      FootpathError: a landing file was read by another release.
    """
    files = all_manifests(lake)
    known = {identity: manifest for identity, manifest in files.items() if manifest}
    if lost := sorted(files.keys() - known.keys()):
        raise FootpathError(
            f"{len(lost)} manifests in {manifests_folder(lake)} are of another release, such as "
            f"{lost[0]}.json: materialize landing for all arrival days, so that their files are "
            f"read again"
        )
    return known


def committed_fragments(lake: Lake, days: list[dt.date]) -> list[Fragment]:
    """Fragments of event days that a manifest names, by day and name."""
    folders = [fragments_folder(lake) / day.isoformat() for day in days]
    listed = side_by_side(sizes, folders)
    identities = {name.partition("-")[0] for of_day in listed for name in of_day}
    manifests = read_manifests(lake, sorted(identities))
    found = []
    for day, folder, of_day in zip(days, folders, listed, strict=True):
        for name, size in of_day.items():
            manifest = manifests[name.partition("-")[0]]
            if manifest and name == fragment_path(lake, manifest, day).name:
                found.append(Fragment(day, folder / name, size, manifest))
    return found
