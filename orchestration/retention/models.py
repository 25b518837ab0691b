"""Model versions, trials, embeddings and indexes: what of them may go.

A version goes as a whole: first the file that says that its checkpoint is there, so that nothing
finds it any more, and later weights, embeddings, index and what is known of its online rows. Its
name stays in the ledger for ever, and so do curves and figures: the same training makes the same
version again.
"""

from collections.abc import Iterator
from pathlib import Path

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.pointers import pointed_folder
from contracts.lake.reading import Found, tree
from contracts.lake.versions import CONFIG, WEIGHTS, ModelVersion, all_versions, trial_folder
from models.experiments.cells import evictable
from orchestration.retention.named import Named
from orchestration.retention.report import Thing
from orchestration.retention.running import Running

VERSIONS, WEIGHTS_OF, TRIALS, STATES, EMBEDDINGS, INDEXES = (
    "model versions", "weights of versions", "trials without a name", "unfinished trainings",
    "embeddings", "similar-user indexes",
)  # fmt: skip
BUSY = "a program is reading or writing it"
STATE = "state.safetensors"  # of a training that is not finished
_LASTING = ("curves.parquet", "metrics.json")  # of a checkpoint that goes
_UNWANTED = "no service, recipe or task needs the version"


def model_things(
    dataset: Dataset, lake: Lake, named: Named, running: Running, now: float
) -> Iterator[Thing]:
    """Yields versions, trials, trainings on their way, embeddings and indexes."""
    trials = _files_by_trial(lake.root)
    by_trial: dict[str, list[ModelVersion]] = {}
    for version in all_versions(lake):
        by_trial.setdefault(version.trial, []).append(version)
    yield from _versions(lake, named, running, trials, by_trial)
    yield from _unnamed(dataset, lake, named, running, now, trials.keys() - by_trial.keys())
    for root in dict.fromkeys((lake.root, lake.work)):
        yield from _unfinished(dataset, lake, root, running, now)
    yield from _embeddings(lake, named)
    yield from _indexes(lake, named)


def _files_by_trial(root: Path) -> dict[str, dict[str, Found]]:
    """The files of each checkpoint folder below a lake's root, or below its local folder."""
    trials: dict[str, dict[str, Found]] = {}
    for path, found in tree(root / "trials").items():
        trial, _, name = path.partition("/")
        if not name.endswith(".lock"):
            trials.setdefault(trial, {})[name] = found
    return trials


def _versions(
    lake: Lake,
    named: Named,
    running: Running,
    trials: dict[str, dict[str, Found]],
    by_trial: dict[str, list[ModelVersion]],
) -> Iterator[Thing]:
    """Yields checkpoints that have a name, and weights of those that went before."""
    for trial, versions in by_trial.items():
        parts, folder, name = trials.get(trial, {}), trial_folder(lake, trial), versions[0].version
        # The weights go last: without them nothing tells that the rest is to go.
        body = sorted({*parts} - {CONFIG, STATE, *_LASTING}, key=lambda part: part == WEIGHTS)
        if WEIGHTS not in parts:
            continue
        used = max(found.modified for found in parts.values())
        why = next((w for v in versions if (w := named.versions.get(v.version))), "")
        why = BUSY if running.names(lake.work / "trials" / trial) else why
        weights = sum(parts[part].bytes for part in body)
        if CONFIG in parts:
            size = parts[CONFIG].bytes + (weights if why else 0)
            paths = _with_copies(lake, [folder / CONFIG])
            yield Thing(VERSIONS, name, size, used, why, _UNWANTED, paths)
        if CONFIG not in parts or not why:
            paths = _with_copies(lake, [folder / part for part in body])
            yield Thing(WEIGHTS_OF, name, weights, used, why, _UNWANTED, paths, is_read=True)


def _with_copies(lake: Lake, paths: list[Path]) -> tuple[Path, ...]:
    """Paths of the lake, and then their copies on this machine where that is another place."""
    copies = [lake.work / path.relative_to(lake.root).as_posix() for path in paths]
    return tuple(dict.fromkeys([*paths, *copies]))


def _unnamed(
    dataset: Dataset, lake: Lake, named: Named, running: Running, now: float, trials: set[str]
) -> Iterator[Thing]:
    """Yields checkpoints without a name; those beyond the budget, used longest ago, may go."""
    keep = dataset.automation.keep
    needed = _needed(dataset, lake, named, running, now)
    going = set(evictable(lake, needed, keep.unnamed_bytes))
    for path, found in tree(lake.root / "trials").items():
        trial, _, name = path.partition("/")
        if name == WEIGHTS and trial in trials:
            kept = "" if trial in going else named.comparison or f"within {keep.unnamed_gb:g} GB"
            goes = f"beyond {keep.unnamed_gb:g} GB, and used longest ago"
            # The file of the config says that it is whole: it goes first.
            folder = trial_folder(lake, trial)
            paths = _with_copies(lake, [folder / CONFIG, folder / WEIGHTS])
            yield Thing(TRIALS, trial, found.bytes, found.modified, kept, goes, paths)


def _unfinished(
    dataset: Dataset, lake: Lake, root: Path, running: Running, now: float
) -> Iterator[Thing]:
    """Yields what killed trainings have left, from which they go on where they were."""
    days = dataset.automation.keep.days
    for trial, parts in _files_by_trial(root).items():
        if STATE not in parts or CONFIG in parts:
            continue
        found = parts[STATE]
        why = BUSY if running.names(lake.work / "trials" / trial) else ""
        if now - found.modified < days * 86400:
            why = why or f"it may go on: its last step is younger than {days} days"
        path = root / "trials" / trial / STATE
        yield Thing(STATES, trial, *found, why, f"nobody went on with it for {days} days", (path,))


def _needed(dataset: Dataset, lake: Lake, named: Named, running: Running, now: float) -> set[str]:
    """Trials that stay whatever room they take."""
    grace = dataset.automation.keep.reading_hours * 3600
    needed = set()
    for root in dict.fromkeys((lake.root, lake.work)):
        for path, found in tree(root / "trials").items():
            trial = path.partition("/")[0]
            is_busy = running.names(lake.work / "trials" / trial)
            if is_busy or named.comparison or now - found.modified < grace:
                needed.add(trial)
    return needed


def _embeddings(lake: Lake, named: Named) -> Iterator[Thing]:
    """Yields embeddings by version; those of a version that goes, go with it."""
    by_version: dict[str, list[Found]] = {}
    for path, found in tree(lake.root / "user_embeddings").items():
        if path.endswith(".parquet"):
            by_version.setdefault(path.partition("/")[0], []).append(found)
    for version, objects in by_version.items():
        state = lake.root / "feature_store" / "online" / f"user_embeddings_{version}.parquet"
        yield Thing(
            EMBEDDINGS,
            version,
            sum(found.bytes for found in objects),
            max(found.modified for found in objects),
            named.versions.get(version, ""),
            _UNWANTED,
            (lake.root / "user_embeddings" / version, state),
            is_read=True,
        )


def _indexes(lake: Lake, named: Named) -> Iterator[Thing]:
    """Yields pointers, each with its version, and then folders that no pointer names."""
    root = lake.root / "feature_store" / "similar"
    files = tree(root)
    folders: dict[str, str] = {}  # folder -> why it stays
    for path, found in files.items():
        if path.endswith(".json"):
            version = path.removesuffix(".json")
            why = named.versions.get(version, "")
            if why:
                folders[pointed_folder(root / path).name] = f"it is the index of {version}"
            yield Thing(INDEXES, path, found.bytes, found.modified, why, _UNWANTED, (root / path,))
    yield from folder_things(INDEXES, lake, "feature_store/similar", files, folders)


def folder_things(
    kind: str, lake: Lake, place: str, files: dict[str, Found], kept: dict[str, str]
) -> Iterator[Thing]:
    """Yields the folders of a place: those that a pointer names stay.

    Args:
      kind: of the things.
      lake: of the data set.
      place: the folder of pointers and folders.
      files: all files below it.
      kept: folder -> why it stays.
    """
    by_folder: dict[str, list[Found]] = {}
    for path, found in files.items():
        if "/" in path:
            by_folder.setdefault(path.partition("/")[0], []).append(found)
    for name, parts in by_folder.items():
        folder = lake.root / place / name
        used = max(found.modified for found in parts)
        yield Thing(
            kind,
            name,
            sum(found.bytes for found in parts),
            used,
            kept.get(name, ""),
            "no pointer names it",
            (folder,),
            is_read=True,
        )
