"""What is known of some users: where, in how many objects, and how many rows; never who."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.paths import is_remote
from contracts.lake.versions import all_versions
from orchestration.forgetting.folders import Held, folders_with
from orchestration.forgetting.ids import Ids
from orchestration.forgetting.landing import Landed, landed_with, source_files
from orchestration.forgetting.tables import tables_with
from orchestration.forgetting.texts import documents_with, logs_with

LOGS, DAGSTER = "logs", "Dagster's databases"


@dataclass(frozen=True)
class Line:
    """One place."""

    place: str  # a table or a folder of the lake, or one of the names above
    objects: int
    rows: int


@dataclass(frozen=True)
class Found:
    """All objects that hold the users."""

    landed: Landed
    tables: dict[Path, int]
    copies: dict[Path, int]  # on this machine, of a lake on S3
    held: list[Held]
    documents: list[Path]
    logs: list[Path]

    @property
    def indexes(self) -> list[Held]:
        """The indexes of similar users among the folders."""
        return [held for held in self.held if held.place != "sequences"]

    def lines(self, lake: Lake) -> list[Line]:
        """Counts by place, in order."""
        objects: Counter[str] = Counter()
        rows: Counter[str] = Counter()
        for path, count in (self.landed.all | self.tables | self.copies).items():
            place = place_of(lake, path)
            objects[place] += 1
            rows[place] += count
        for held in self.held:
            objects[held.place] += len(held.folders)
        for path in self.documents:
            objects[place_of(lake, path)] += 1
        if self.logs:
            objects[LOGS] = len(self.logs)
        return [Line(place, objects[place], rows[place]) for place in sorted(objects)]


def find(dataset: Dataset, lake: Lake, ids: Ids) -> Found:
    """Looks through a lake and the logs of this machine."""
    is_copied = lake.root != lake.work
    return Found(
        landed_with(dataset, lake, ids),
        tables_with(lake.root, ids),
        tables_with(lake.work, ids) if is_copied else {},
        folders_with(lake, ids),
        documents_with(lake, ids),
        logs_with(ids),
    )


def place_of(lake: Lake, path: Path) -> str:
    """The table or folder of the lake that an object belongs to."""
    if is_remote(path) != is_remote(lake.root):
        return f"local copies of {path.relative_to(lake.work).parts[0]}"
    place = PurePosixPath(path.relative_to(lake.root).as_posix())
    place = place.parent if len(place.parts) > 1 else place
    return "landing/fragments" if place.parts[0] == "landing" else place.as_posix()


@dataclass(frozen=True)
class Sources:
    """What is named, and not touched."""

    versions: list[str]  # models that were trained on the users
    files: list[str]  # of the company's own source


def sources(dataset: Dataset, lake: Lake, found: Found) -> Sources:
    """Models that were trained on the users, and files of the source that they stand in."""
    days = [path.stem for path in found.tables if path.parent == lake.table("events")]
    first = min(days, default=None)
    versions = [v.version for v in all_versions(lake) if first and v.as_of >= first]
    files = source_files(found.landed)
    if dataset.users and lake.single("users") in found.tables:
        files.append(dataset.users.url)
    return Sources(sorted(versions), files)
