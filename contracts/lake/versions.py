"""Model versions of a data set: names for trained models, which lie under a hash of what they are.

    <lake>/trials/<key>/       a checkpoint; the key is a hash of all that its weights follow from
    <lake>/versions.json       names: `<recipe>_v<N>` of a pre-trained encoder,
                               `<recipe>_v<N>_<task>` of one that was fine-tuned for a task, and
                               `<recipe>_v<N>_<task>_profile` of one with the head of a profile

The same recipe on the same data is the same trial, and so the same version: a repeated run resumes
or re-uses it. A name never changes what it stands for.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json
from contracts.lake.reading import read_json

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"  # of a checkpoint; the first is written last


@dataclass(frozen=True)
class ModelVersion:
    """A name for a trial."""

    version: str
    recipe: str
    trial: str
    as_of: str  # the day with which the events end that it was trained on
    task: str = ""  # that it predicts; none: pre-trained alone

    def folder(self, lake: Lake) -> Path:
        """The checkpoint folder."""
        return trial_folder(lake, self.trial)

    def is_finished(self, lake: Lake) -> bool:
        """Whether its training came to its end."""
        return is_trained(lake, self.trial)


def trial_folder(lake: Lake, trial: str) -> Path:
    """The checkpoint folder of a trial."""
    return lake.root / "trials" / trial


def is_trained(lake: Lake, trial: str) -> bool:
    """Whether a trial's checkpoint is whole."""
    return (trial_folder(lake, trial) / CONFIG).exists()


def allocate(lake: Lake, recipe: str, trial: str, as_of: str) -> ModelVersion:
    """Names a pre-trained trial `<recipe>_v<N>`: the next number where it has no name yet."""
    with lake.locked("versions"):
        known = all_versions(lake)
        alike = [version for version in known if version.recipe == recipe and not version.task]
        for version in alike:
            if version.trial == trial:
                return version
        found = ModelVersion(f"{recipe}_v{len(alike) + 1}", recipe, trial, as_of)
        _write(lake, [*known, found])
    return found


def allocate_for_task(
    lake: Lake, base: ModelVersion, task: str, trial: str, is_profile: bool = False
) -> ModelVersion:
    """Names a task's trial `<base>_<task>`, or with `_profile` after it; then `_r2` and so on."""
    with lake.locked("versions"):
        known = all_versions(lake)
        alike = [v for v in known if (v.recipe, v.task) == (base.recipe, task)]
        for version in alike:
            if version.trial == trial:
                return version
        first = f"{base.version}_{task}{'_profile' if is_profile else ''}"
        name, taken, again = first, {version.version for version in known}, 2
        while name in taken:
            name, again = f"{first}_r{again}", again + 1
        found = ModelVersion(name, base.recipe, trial, base.as_of, task)
        _write(lake, [*known, found])
    return found


def all_versions(lake: Lake) -> list[ModelVersion]:
    """Every version that was ever named, oldest first.

    Raises:
      FootpathError: the file is of another format.
    """
    path = _path(lake)
    if not path.exists():
        return []
    document: dict[str, Any] = read_json(path)
    if document.get("format") != FORMAT:
        raise FootpathError(
            f"{path} is of format {document.get('format')}, and this Footpath reads format "
            f"{FORMAT}: train the models of this data set again"
        )
    return [ModelVersion(**entry) for entry in document["versions"]]


def version_named(lake: Lake, name: str) -> ModelVersion:
    """The version of that name, finished.

    Raises:
      FootpathError: there is none, or its training has not come to its end.
    """
    known = {version.version: version for version in all_versions(lake)}
    if name not in known or not known[name].is_finished(lake):
        finished = ", ".join(n for n, version in known.items() if version.is_finished(lake))
        raise FootpathError(
            f"{lake.root} has no finished model version '{name}': it has {finished or 'none'}"
        )
    return known[name]


def latest_finished(lake: Lake, recipe: str, task: str = "") -> ModelVersion | None:
    """The newest finished version of a recipe, pre-trained or of a task."""
    alike = [v for v in all_versions(lake) if (v.recipe, v.task) == (recipe, task)]
    return next((version for version in reversed(alike) if version.is_finished(lake)), None)


def latest_of_task(lake: Lake, task: str) -> ModelVersion | None:
    """The newest finished version of a task, of whichever recipe."""
    alike = [version for version in all_versions(lake) if version.task == task]
    return next((version for version in reversed(alike) if version.is_finished(lake)), None)


def _write(lake: Lake, versions: list[ModelVersion]) -> None:
    entries = [asdict(version) for version in versions]
    publish_json(lake, {"format": FORMAT, "versions": entries}, _path(lake))


def _path(lake: Lake) -> Path:
    return lake.root / "versions.json"
