"""Training sequences, pages, counts of reads, and what programs have left: what of them may go.

Sequences encoded with a model's vocabulary are made to judge a served version on another day, and
hold the whole history: none is needed once it is judged. Those of an embedding end with its run.
"""

import datetime as dt
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from contracts.base.locks import is_left
from contracts.config.dataset import Dataset
from contracts.lake.layout import LEFT_BEHIND_SECONDS, Lake, home
from contracts.lake.pointers import pointed_folder
from contracts.lake.reading import Found, read_json, tree
from contracts.lake.versions import CONFIG
from orchestration.retention.models import BUSY, folder_things
from orchestration.retention.named import Named
from orchestration.retention.report import Thing
from orchestration.retention.running import Running

SEQUENCES, PAGES, JOBS, STAGING, SPILL, COPIES, READS = (
    "training sequences", "pages of Data Docs", "job files", "staging", "spill files",
    "local copies", "counts of reads",
)  # fmt: skip

# What is fetched from a lake on S3 for programs of this machine, and can be fetched again.
_FETCHED = ("sequences", "trials", "labels", "examples", "head_features", "measurements",
            "feature_store/similar")  # fmt: skip


def input_things(
    dataset: Dataset, lake: Lake, named: Named, running: Running, now: float
) -> Iterator[Thing]:
    """Yields sequences, pages, and what programs have left behind."""
    yield from _sequences(dataset, lake, named, running)
    yield from _pages(lake)
    yield from _job_files(dataset, lake, running, now)
    yield from _label_splits(dataset, lake, named, running, now)
    yield from _staging(lake, running, now)
    yield from _spill(now)
    yield from _reads(lake, now)
    if lake.root != lake.work:
        yield from _copies(dataset, lake, running, now)


def _sequences(dataset: Dataset, lake: Lake, named: Named, running: Running) -> Iterator[Thing]:
    root, files = lake.root / "sequences", tree(lake.root / "sequences")
    pointers = {path: found for path, found in files.items() if re.fullmatch(r"[^/]+\.json", path)}
    fitted = sorted(path for path in pointers if "__" not in path)
    newest = {path.removesuffix(".json") for path in fitted[-dataset.automation.keep.sequences :]}
    folders: dict[str, str] = {}
    for path, found in pointers.items():
        as_of, _, how = path.removesuffix(".json").partition("__")
        why = BUSY if running.names(lake.work / "sequences" / path) else named.comparison
        if not how or how.startswith("holdout"):
            why = why or named.as_ofs.get(as_of, "")
            why = why or ("among the newest" if as_of in newest else "")
        if why:
            folders[pointed_folder(root / path).name] = f"{path} names it"
        goes = "what it was encoded for is measured" if how and not how.startswith("holdout") else (
            "it is not among the newest, and no version needs it"
        )  # fmt: skip
        yield Thing(SEQUENCES, path, found.bytes, found.modified, why, goes, (root / path,))
    for folder in {path.partition("/")[0] for path in files if "/" in path}:
        if running.names(lake.work / "sequences" / folder):
            folders.setdefault(folder, BUSY)
    yield from folder_things(SEQUENCES, lake, "sequences", files, folders)


def _pages(lake: Lake) -> Iterator[Thing]:
    """Yields pages of audits; those stay that the index leads to."""
    root, files = lake.root / "data_docs", tree(lake.root / "data_docs")
    for table in sorted({path.partition("/")[0] for path in files if "/" in path}):
        outcomes = read_json(root / f"{table}.json") if f"{table}.json" in files else {}
        shown = {outcome["page"] for outcome in outcomes.values()}
        for path, found in files.items():
            if path.startswith(f"{table}/"):
                why = "the index leads to it" if path in shown else ""
                goes = "every day of it was audited again"
                yield Thing(PAGES, path, found.bytes, found.modified, why, goes, (root / path,))


def _job_files(dataset: Dataset, lake: Lake, running: Running, now: float) -> Iterator[Thing]:
    days = dataset.automation.keep.days
    for path, found in tree(lake.work / "runs").items():
        file = lake.work / "runs" / path
        why = BUSY if file in running.files else _young(found.modified, days, now)
        goes = f"its program ended more than {days} days ago"
        yield Thing(JOBS, path, found.bytes, found.modified, why, goes, (file,))


def _label_splits(
    dataset: Dataset, lake: Lake, named: Named, running: Running, now: float
) -> Iterator[Thing]:
    """Yields labels with the split of a seed: made from the labels, on this machine alone."""
    days = dataset.automation.keep.days
    for path, found in tree(lake.work / "labels_of_seeds").items():
        file = lake.work / "labels_of_seeds" / path
        why = BUSY if running.names(file) else named.comparison
        why = why or _young(found.modified, days, now)
        goes = f"not read for {days} days; made again when a comparison needs it"
        yield Thing(COPIES, f"labels_of_seeds/{path}", *found, why, goes, (file,))


def _staging(lake: Lake, running: Running, now: float) -> Iterator[Thing]:
    """Yields what is on its way, or was left there by a killed run."""
    hours = LEFT_BEHIND_SECONDS // 3600
    for place in ("_staging", "running"):
        for folder, size, used in _folders(lake.work / place):
            is_busy = running.names(folder) or folder.name in running.jobs
            why = BUSY if is_busy or is_left(folder) is False else ""
            if not why and is_left(folder) is None and now - used < LEFT_BEHIND_SECONDS:
                why = f"written to in the last {hours} hours"
            goes = "left by a killed run"
            yield Thing(STAGING, f"{place}/{folder.name}", size, used, why, goes, (folder,))


def _spill(now: float) -> Iterator[Thing]:
    """Yields what DuckDB and Spark have put on disk for want of memory, of whatever data set."""
    for folder, size, used in _folders(home() / "spill"):
        why = "" if is_left(folder) else "its process runs"
        yield Thing(SPILL, folder.name, size, used, why, "its process has ended", (folder,))
    for folder, size, used in _folders(home() / "work"):
        if folder.name.startswith("spark-"):
            is_young = now - used < LEFT_BEHIND_SECONDS
            why = "written to in the last 24 hours" if is_young else ""
            goes = "nobody wrote to it for 24 hours"
            yield Thing(SPILL, folder.name, size, used, why, goes, (folder,))


def _reads(lake: Lake, now: float) -> Iterator[Thing]:
    """Yields days of which reads over HTTP were counted."""
    from features.store.serving.read_counts import days_counted, first_day_kept

    first = first_day_kept(dt.datetime.fromtimestamp(now, dt.UTC))
    for day, (folder, size, used) in days_counted(lake).items():
        why = "`footpath retire` asks for it" if day >= first.isoformat() else ""
        yield Thing(READS, day, size, used, why, f"it is before {first}", (folder,))


def _copies(dataset: Dataset, lake: Lake, running: Running, now: float) -> Iterator[Thing]:
    """Yields copies of objects on S3: they can be fetched again."""
    days = dataset.automation.keep.days
    for place in _FETCHED:
        there = tree(lake.root / place)
        for path, found in tree(lake.work / place).items():
            copy = lake.work / place / path
            if path.endswith(".lock") or not copy.exists():
                continue
            asked = max(copy.stat().st_atime, copy.stat().st_ctime)
            # A training on its way is no copy; it is judged with the trainings. One that has just
            # ended is about to be sent.
            is_own = place == "trials" and path not in there
            if is_own and not (lake.work / place / path).with_name(CONFIG).exists():
                continue
            why = BUSY if running.names(copy) else ""
            if is_own or path in there:
                why = why or _young(asked, days, now)
            goes = f"not asked for in {days} days" if path in there else "its original has gone"
            yield Thing(COPIES, f"{place}/{path}", found.bytes, asked, why, goes, (copy,))


def _folders(place: Path) -> Iterator[tuple[Path, int, float]]:
    """Yields the folders of a local place, their bytes, and when they were last written to."""
    for folder in sorted(place.iterdir()) if place.is_dir() else ():
        if not folder.is_dir() or folder.is_symlink():
            continue
        parts: Iterable[Found] = tree(folder).values()
        try:
            used = max([folder.stat().st_mtime, *(found.modified for found in parts)])
        except FileNotFoundError:
            continue  # its run has just ended
        yield folder, sum(found.bytes for found in parts), used


def _young(used: float, days: int, now: float) -> str:
    return f"made or used in the last {days} days" if now - used < days * 86400 else ""
