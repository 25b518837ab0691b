"""Which published days are due for a rebuild: those that were built from other data than there is.

In:  the manifests of landing files, and what every published day says that it was built from
(features/provenance.py). Out: the days of events, sessions and behavior features that a rebuild
would build from something else, each with the reason.

A late row changes the fragment of its day D, so events D are due; the other days of its landing
file keep their rows, and are not. From the fragments follows the
fingerprint that the rebuilt events will have, from it what sessions D to D+2 will be built from,
and from theirs the features up to D+32: whatever differs from what the objects say is due. Nothing
is remembered between a change and its rebuild, so a run that is killed between events and sessions
leaves sessions due; and as only data counts, a file that is delivered again as it was makes
nothing due.

A day that was never published is not due, nor is one that lacks a table before it: nobody has built
them yet, and backfilling is not ours.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_json
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.reading import stamps
from features.behavior.build import feature_needs
from features.ingestion.digests import Digest
from features.ingestion.manifest import (
    Manifest,
    all_manifests,
    files_folder,
    fragment_name,
    fragments_folder,
    manifest_path,
    side_by_side,
)
from features.provenance import (
    LINES,
    UNKNOWN,
    Inputs,
    digest_inputs,
    fingerprint,
    inputs_from,
    read_inputs,
    rows_only,
)
from features.sessionization.sessions import session_needs

# What is rebuilt, in order.
TABLES = ("events", "sessions", "user_behavior_features")


@dataclass(frozen=True)
class Closure:
    """The days that are due, in order of table and day."""

    reasons: dict[str, dict[dt.date, str]]  # table -> day -> why, in a few words
    marks: dict[str, dict[dt.date, str]]  # table -> day -> the object now, and what it will be of
    built: set[dt.date]  # days whose events are published

    @property
    def days(self) -> list[dt.date]:
        """The days on which anything is due."""
        return sorted({day for of_table in self.reasons.values() for day in of_table})

    def span(self, max_days: int) -> tuple[dt.date, dt.date]:
        """Returns the first range to rebuild, of at most so many days; the rest is due after it.

        It ends before a day without events, which a run over it would try to build.
        """
        first = end = self.days[0]
        while end in self.built and (end - first).days < max_days:
            end += dt.timedelta(days=1)
        return first, max(day for day in self.days if day < end)

    def key(self, first: dt.date, last: dt.date) -> str:
        """Returns what stands for this rebuild: the same for the same objects and the same data."""
        wanted = [
            [table, str(day), self.marks[table][day]]
            for table, of_table in self.reasons.items()
            for day in of_table
            if first <= day <= last
        ]
        return hash_json(wanted)


def lake_state(lake: Lake) -> str:
    """Returns what stays the same as long as nothing can have become due: a few listings."""
    found = [sorted(stamps(files_folder(lake), "*.json").items())]
    found += [sorted(stamps(lake.table(table)).items()) for table in TABLES]
    return hash_json(found)


def find_closure(dataset: Dataset, lake: Lake) -> Closure:
    """Finds the published days that are due.

    What has not changed since the last call in this process is not read again.

    Raises:
      FootpathError: a landing file was read by another release, or a fragment is gone, so that a
        rebuild would lose rows.
    """
    files = readable_manifests(lake)
    objects = {table: _objects(lake, table) for table in TABLES}
    was = {table: _read(lake, table, objects[table]) for table in TABLES}
    by_day = fragments_by_day(files)
    will = {"events": {day: digest_inputs(by_day.get(day, {})) for day in was["events"]}}
    hashes = {"events": _hashes(will["events"])}
    for table, needs in (("sessions", session_needs), ("user_behavior_features", feature_needs)):
        will[table] = inputs_from({day: needs(dataset, day) for day in was[table]}, hashes)
        hashes[table] = _hashes(will[table])
    refused = _objects(lake, "quarantine/events")
    reasons = {
        table: {
            day: reason
            for day, inputs in was[table].items()
            if (reason := _reason(inputs, will[table][day], files, day in refused))
            and all(day in objects[before] for before in TABLES[:n])
        }
        for n, table in enumerate(TABLES)
    }
    for day in reasons["events"]:
        _check_fragments(lake, day, by_day.get(day, {}), files)
    marks = {
        table: {day: f"{objects[table][day]} {hashes[table][day]}" for day in was[table]}
        for table in TABLES
    }
    return Closure(reasons, marks, set(was["events"]))


def due_days(dataset: Dataset, lake: Lake, table: str, days: list[dt.date]) -> list[dt.date]:
    """Returns those of some days that are not published, or due."""
    fresh = set(lake.days(table)) - find_closure(dataset, lake).reasons[table].keys()
    return [day for day in days if day not in fresh]


def readable_manifests(lake: Lake) -> dict[str, Manifest]:
    """Returns all manifests by file id.

    Raises:
      FootpathError: a landing file was read by another release.
    """
    files = all_manifests(lake)
    known = {identity: manifest for identity, manifest in files.items() if manifest}
    if lost := sorted(files.keys() - known.keys()):
        raise FootpathError(
            f"{len(lost)} manifests in {files_folder(lake)} are of another release, such as "
            f"{lost[0]}.json: materialize landing for all arrival days, so that their files are "
            f"read again"
        )
    return known


def _check_fragments(
    lake: Lake, day: dt.date, fragments: Iterable[str], files: dict[str, Manifest]
) -> None:
    folder = fragments_folder(lake) / str(day)
    there = stamps(folder)
    for identity in fragments:
        if (name := fragment_name(identity, files[identity].version)) not in there:
            path = files[identity].path
            raise FootpathError(
                f"{folder / name} is gone, the rows of {path} on {day}: remove "
                f"{manifest_path(lake, identity)} and materialize landing, so that the file is "
                f"read again"
            )


def _objects(lake: Lake, table: str) -> dict[dt.date, str]:
    """Returns the stamps of a table's published objects by day, in order."""
    found = sorted(stamps(lake.table(table)).items())
    return {dt.date.fromisoformat(name.removesuffix(".parquet")): stamp for name, stamp in found}


def _read(lake: Lake, table: str, objects: dict[dt.date, str]) -> dict[dt.date, Inputs]:
    """Returns what published days were built from."""
    found = list(objects.items())
    read = side_by_side(lambda item: _inputs(lake.day(table, item[0]), item[1]), found)
    return dict(zip(objects, read, strict=True))


@lru_cache(maxsize=20_000)
def _inputs(path: Path, stamp: str) -> Inputs:  # noqa: ARG001 - a changed object is read again
    return read_inputs(path)


def fragments_by_day(files: dict[str, Manifest]) -> dict[dt.date, dict[str, Digest]]:
    """Returns the fragments that each event day has now: landing file -> digest of its rows."""
    by_day: dict[dt.date, dict[str, Digest]] = {}
    for identity, manifest in sorted(files.items()):
        for day in manifest.days:
            by_day.setdefault(dt.date.fromisoformat(day), {})[identity] = manifest.digest(day)
    return by_day


def _hashes(inputs: dict[dt.date, Inputs]) -> dict[dt.date, str]:
    return {day: fingerprint(of_day) for day, of_day in inputs.items()}


def _reason(was: Inputs, will: Inputs, files: dict[str, Manifest], has_refused: bool) -> str:
    """Says what differs, in words; nothing if nothing does.

    Rows in quarantine are found by their lines, and so on a day with some these count too.
    """
    if was == UNKNOWN:
        return "does not say what it was built from"
    if not has_refused or LINES not in was:
        was, will = rows_only(was), rows_only(will)
    told = []
    for table, inputs in will.items():
        old = was.get(table, {})
        for change, names in (
            ("new", inputs.keys() - old.keys()),
            ("changed", {name for name in inputs.keys() & old.keys() if inputs[name] != old[name]}),
            ("gone", old.keys() - inputs.keys()),
        ):
            if names:
                shown = sorted(files[name].path if name in files else name for name in names)
                told.append(f"{table} {change}: {_list(shown)}")
    return "; ".join(told)


def _list(names: Iterable[str], most: int = 3) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
