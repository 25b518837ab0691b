"""`footpath clean`: removes what nothing needs any more, and says what it keeps, and why.

In:  a data set with its lake, and the instance. Out: a report; in the lake, `retired.json`.

Readers are safe by order and by time. What points at something goes before it; what is pointed at
is only marked then, in `retired.json`, and goes in a later clean, once nobody can be left who read
the pointer (`keep.reading_hours`). Killed at any moment, the lake is whole: a pointer names what is
there, and what is left over goes next time.
"""

import contextlib
import datetime as dt
import os
import shutil
from pathlib import Path

import dagster as dg

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.paths import is_remote
from contracts.lake.publishing import publish_json, remove_files, remove_folder
from contracts.lake.reading import read_json
from orchestration.retention.dagster_runs import remove_run, run_things
from orchestration.retention.inputs import input_things
from orchestration.retention.models import model_things
from orchestration.retention.named import named
from orchestration.retention.report import Judged, Report, Thing, Verdict
from orchestration.retention.running import running

MARKS = "retired.json"
FORMAT = 1


def clean(
    dataset: Dataset,
    lake: Lake,
    instance: dg.DagsterInstance | None,
    now: dt.datetime,
    dry_run: bool = False,
) -> Report:
    """Removes what `automation.keep` of the data set does not keep.

    Tables of events, sessions, features and labels, landing fragments, quarantine, figures of
    leaderboards and comparisons, and the online store are never touched.

    Args:
      dataset: whose.
      lake: of the data set.
      instance: whose runs are cleaned too; None for the lake alone.
      now: the present.
      dry_run: nothing is changed.

    Returns:
      Every thing that was looked at, what became of it, and why.
    """
    with lake.locked("retention"):
        return _Clean(dataset, lake, instance, now.timestamp(), dry_run).run()


class _Clean:
    def __init__(
        self,
        dataset: Dataset,
        lake: Lake,
        instance: dg.DagsterInstance | None,
        now: float,
        dry_run: bool,
    ) -> None:
        self._dataset, self._lake, self._instance = dataset, lake, instance
        self._now, self._dry_run = now, dry_run
        self._grace = dataset.automation.keep.reading_hours * 3600
        path = lake.root / MARKS
        self._marks: dict[str, float] = read_json(path)["since"] if path.exists() else {}
        self._new_marks: dict[str, float] = {}
        self._written: dict[Thing, float] = {}  # when, as they were looked at

    def run(self) -> Report:
        facts = named(self._dataset, self._lake, self._now), running(self._lake)
        judged = []
        for things in (model_things, input_things):
            # What goes at once goes first: it may be what points at the rest.
            found = list(things(self._dataset, self._lake, *facts, self._now))
            self._written = {thing: _written(thing) for thing in found}
            judged += [self._judge(thing) for thing in sorted(found, key=lambda t: t.is_read)]
        if self._instance:
            for thing in list(run_things(self._dataset, self._instance, self._now)):
                if not thing.kept and not self._dry_run:
                    remove_run(self._instance, thing)
                verdict = "kept" if thing.kept else "removed"
                judged.append(_judged(thing, verdict, thing.kept or thing.goes))
        if self._new_marks != self._marks and not self._dry_run:
            document = {"format": FORMAT, "since": self._new_marks}
            publish_json(self._lake, document, self._lake.root / MARKS)
        return Report(judged, self._dry_run)

    def _judge(self, thing: Thing) -> Judged:
        hours = self._dataset.automation.keep.reading_hours
        used = max(thing.used, self._written[thing])
        if thing.kept:
            return _judged(thing, "kept", thing.kept)
        if self._now - used < self._grace:
            return _judged(thing, "kept", f"made or used in the last {hours} hours")
        if thing.is_read:
            mark = f"{thing.kind}/{thing.name}"
            since = self._marks.get(mark, self._now)
            since = self._now if used > since else since
            if self._now - since < self._grace:
                self._new_marks[mark] = since
                told = f"{thing.goes}; goes after {hours} hours, for whoever still reads it"
                return _judged(thing, "waiting", told)
        if _written(thing) > self._written[thing]:
            return _judged(thing, "kept", "somebody has just made it again")
        self._remove(thing)
        return _judged(thing, "removed", thing.goes)

    def _remove(self, thing: Thing) -> None:
        for path in thing.paths if not self._dry_run else ():
            if is_remote(path):
                remove_files([path]) if path.is_file() else remove_folder(path)
            elif path.is_dir():
                _remove_here(path, self._lake)
            else:
                path.unlink(missing_ok=True)


def _remove_here(folder: Path, lake: Lake) -> None:
    """Removes a local folder: out of the readers' sight in one step, and then for good."""
    if not folder.is_relative_to(lake.work) or folder.parent.name == "_staging":
        shutil.rmtree(folder, ignore_errors=True)
        return
    with lake.staging() as staging:
        os.replace(folder, staging / folder.name)


def _written(thing: Thing) -> float:
    """When the local files and folders that would go were last written, or made again."""
    found = 0.0
    for path in thing.paths:
        if not is_remote(path):
            with contextlib.suppress(FileNotFoundError):
                found = max(found, path.stat().st_mtime)
    return found


def _judged(thing: Thing, verdict: Verdict, why: str) -> Judged:
    return Judged(thing.kind, thing.name, thing.bytes, verdict, why)
