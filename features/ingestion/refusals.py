"""Landing files that could not be used: as which bytes, read by which mapping, and why.

In:  what a landing run has refused. Out: `landing/refused/<file-id>.json`. A file that lies there
as it was refused is not worth another try; one that was delivered again, or whose YAML has changed,
is. Which is all that the record is for: a run that is asked for that very file tries all the same.
"""

from pathlib import Path

from contracts.base.schema import Strict
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json, remove_files
from contracts.lake.reading import parse_json, read_texts, stamps
from features.ingestion.listing import Arrival
from features.ingestion.manifest import file_id


class Refusal(Strict):
    """One landing file that could not be used."""

    path: str
    size: int
    stamp: str
    mapping: str  # as of a manifest
    reason: str  # a sentence

    def is_of(self, arrival: Arrival, mapping: str) -> bool:
        """Whether it is of this file as it lies there now, read by this mapping."""
        file = arrival.file
        return (self.size, self.stamp, self.mapping) == (file.size, file.stamp, mapping)


def refuse(lake: Lake, arrival: Arrival, mapping: str, reason: str) -> None:
    """Keeps why a file could not be used."""
    file = arrival.file
    refusal = Refusal(
        path=file.path, size=file.size, stamp=file.stamp, mapping=mapping, reason=reason
    )
    publish_json(lake, refusal.model_dump(), _path(lake, file_id(file.path)))


def accept(lake: Lake, identities: list[str]) -> None:
    """Forgets what was refused of files that could be used since."""
    known = stamps(_folder(lake), "*.json")
    remove_files([_path(lake, identity) for identity in identities if f"{identity}.json" in known])


def all_refusals(lake: Lake) -> dict[str, Refusal]:
    """Every refusal by file id."""
    paths = [_folder(lake) / name for name in sorted(stamps(_folder(lake), "*.json"))]
    found = zip(paths, read_texts(paths), strict=True)
    return {
        path.stem: Refusal.model_validate(parse_json(path, text)) for path, text in found if text
    }


def _folder(lake: Lake) -> Path:
    return lake.table("landing") / "refused"


def _path(lake: Lake, identity: str) -> Path:
    return _folder(lake) / f"{identity}.json"
