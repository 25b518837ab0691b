"""What a call has begun: kept until it is done, so that the next one goes on where it was killed.

In:  what was found at first, in counts and names of versions and source files, and a keyed hash of
whose. Out: `forgotten/begun.json`, and then its removal.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from contracts.base.errors import FootpathError
from contracts.lake.forgotten import forgotten_folder
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json, remove_files
from contracts.lake.reading import read_json
from orchestration.forgetting.found import Line, Sources


@dataclass(frozen=True)
class Begun:
    """A call that is not done."""

    key: str  # of the ids
    lines: list[Line]
    sources: Sources
    indexes: list[str]  # versions whose index of similar users is built again in the end

    @classmethod
    def read(cls, lake: Lake, key: str) -> "Begun | None":
        """The call of before that was killed; None where there is none.

        Raises:
          FootpathError: it was about other users.
        """
        path = _path(lake)
        if not path.exists():
            return None
        said = read_json(path)
        if said["key"] != key:
            raise FootpathError(
                "forgetting other users was begun and stopped halfway: give that command again, "
                "with the same ids, and then this one"
            )
        lines = [Line(**line) for line in said["lines"]]
        return cls(key, lines, Sources(**said["sources"]), said["indexes"])

    def publish(self, lake: Lake) -> None:
        """Notes that it has begun."""
        publish_json(lake, asdict(self), _path(lake))

    def remove(self, lake: Lake) -> None:
        """Notes that it is done."""
        remove_files([_path(lake)])


def _path(lake: Lake) -> Path:
    return forgotten_folder(lake) / "begun.json"
