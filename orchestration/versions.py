"""Model versions of a data set: `<recipe>_v<N>`, one for each (configuration, data) that was run.

The same configuration on the same data is the same version: a repeated run resumes or re-uses it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.base.hashing import hash_json
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json
from contracts.lake.reading import read_json


@dataclass(frozen=True)
class ModelVersion:
    """One version and where its checkpoint lies."""

    version: str
    recipe: str
    identity: str
    as_of: str

    def folder(self, lake: Lake) -> str:
        """Returns the checkpoint folder."""
        return str(lake.root / "models" / self.version)

    def is_finished(self, lake: Lake) -> bool:
        """Tells whether its training came to its end."""
        return (lake.root / "models" / self.version / "config.json").exists()


def allocate(lake: Lake, recipe: str, as_of: str, config: dict[str, Any]) -> ModelVersion:
    """Returns the version of this configuration, a new number where it was never run."""
    identity = hash_json(config)
    with lake.locked("models"):
        known = all_versions(lake)
        for version in known:
            if version.recipe == recipe and version.identity == identity:
                return version
        number = 1 + sum(version.recipe == recipe for version in known)
        version = ModelVersion(f"{recipe}_v{number}", recipe, identity, as_of)
        document = {v.version: {**v.__dict__, "order": n} for n, v in enumerate([*known, version])}
        publish_json(lake, document, _path(lake))
        return version


def all_versions(lake: Lake) -> list[ModelVersion]:
    """Returns every version that was ever begun, oldest first."""
    if not _path(lake).exists():
        return []
    entries = sorted(read_json(_path(lake)).values(), key=lambda entry: entry["order"])
    return [ModelVersion(**{k: v for k, v in e.items() if k != "order"}) for e in entries]


def latest_finished(lake: Lake, recipe: str) -> ModelVersion | None:
    """Returns the newest finished version of a recipe, if there is one."""
    finished = [v for v in all_versions(lake) if v.recipe == recipe and v.is_finished(lake)]
    return finished[-1] if finished else None


def measured_files(lake: Lake, recipes: Iterable[str], table: str) -> list[Path]:
    """Returns metrics or predictions of the newest version of every recipe, and of the baselines.

    Args:
      lake: of the data set.
      recipes: which.
      table: `metrics`, or `predictions`, which versions from before these were kept have not.
    """
    versions = [latest_finished(lake, recipe) for recipe in recipes]
    names = [version.version for version in versions if version] + ["baselines"]
    return [path for name in names if (path := lake.single(f"{table}/{name}")).exists()]


def _path(lake: Lake) -> Path:
    return lake.root / "models" / "versions.json"
