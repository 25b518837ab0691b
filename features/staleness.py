"""Staleness: which published days were built from other data than there is now.

In:  the manifests of landing files, and the inputs that every published day names
(features/provenance.py). Out: the days of events, sessions and behavior features that a rebuild
would build from something else, each with the reason.

A late row changes the fragment of its day D, so events D are stale; the other days of its landing
file keep their rows, and are not. From the fragments follows the fingerprint that the rebuilt
events will have, from it what sessions D to D+2 will be built from, and from theirs the features up
to D+32: whatever differs from what the objects name is stale. Nothing is remembered between a
change and its rebuild, so a run that is killed between events and sessions leaves sessions stale;
and as only data counts, a file that is delivered again as it was makes nothing stale.

A day that was never published is not stale, nor is one that lacks a table before it: nobody has
built them yet, and backfilling is not ours.
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
from contracts.lake.reading import side_by_side, stamps
from features.behavior.build import feature_needs
from features.ingestion.manifest import (
    Manifest,
    fragment_path,
    manifest_path,
    manifests_folder,
    readable_manifests,
)
from features.provenance import (
    LINES,
    UNKNOWN,
    Digest,
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
class StaleDays:
    """The days that are stale, in order of table and day."""

    reasons: dict[str, dict[dt.date, str]]  # table -> day -> why, in a few words
    marks: dict[str, dict[dt.date, str]]  # table -> day -> the object now, and what it will be of
    built: set[dt.date]  # days whose events are published

    @property
    def days(self) -> list[dt.date]:
        """The days on which any table is stale."""
        return sorted({day for of_table in self.reasons.values() for day in of_table})

    def span(self, max_days: int) -> tuple[dt.date, dt.date]:
        """The first range to rebuild, of at most so many days; the rest comes after it.

        It ends before a day without events, which a run over it would try to build.
        """
        first = end = self.days[0]
        while end in self.built and (end - first).days < max_days:
            end += dt.timedelta(days=1)
        return first, max(day for day in self.days if day < end)

    def key(self, first: dt.date, last: dt.date) -> str:
        """Idempotency key of a rebuild: the same for the same objects and the same data."""
        wanted = [
            [table, str(day), self.marks[table][day]]
            for table, of_table in self.reasons.items()
            for day in of_table
            if first <= day <= last
        ]
        return hash_json(wanted)


def lake_state(lake: Lake) -> str:
    """Hash that stays as long as nothing can have become stale: of a few listings."""
    found = [sorted(stamps(manifests_folder(lake), "*.json").items())]
    found += [sorted(stamps(lake.table(table)).items()) for table in TABLES]
    return hash_json(found)


def find_stale(dataset: Dataset, lake: Lake) -> StaleDays:
    """Finds the published days that are stale.

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
    return StaleDays(reasons, marks, set(was["events"]))


def days_to_build(dataset: Dataset, lake: Lake, table: str, days: list[dt.date]) -> list[dt.date]:
    """Those of some days that are not published, or stale."""
    fresh = set(lake.days(table)) - find_stale(dataset, lake).reasons[table].keys()
    return [day for day in days if day not in fresh]


def _check_fragments(
    lake: Lake, day: dt.date, fragments: Iterable[str], files: dict[str, Manifest]
) -> None:
    paths = [fragment_path(lake, files[identity], day) for identity in fragments]
    there = stamps(paths[0].parent) if paths else {}
    for identity, path in zip(fragments, paths, strict=True):
        if path.name not in there:
            raise FootpathError(
                f"{path} is gone, the rows of {files[identity].path} on {day}: remove "
                f"{manifest_path(lake, identity)} and materialize landing, so that the file is "
                f"read again"
            )


def _objects(lake: Lake, table: str) -> dict[dt.date, str]:
    """Stamps of a table's published objects by day, in order."""
    found = sorted(stamps(lake.table(table)).items())
    return {dt.date.fromisoformat(name.removesuffix(".parquet")): stamp for name, stamp in found}


def _read(lake: Lake, table: str, objects: dict[dt.date, str]) -> dict[dt.date, Inputs]:
    """Reads the inputs of published days."""
    found = list(objects.items())
    read = side_by_side(lambda item: _inputs(lake.day(table, item[0]), item[1]), found)
    return dict(zip(objects, read, strict=True))


@lru_cache(maxsize=20_000)
def _inputs(path: Path, stamp: str) -> Inputs:  # noqa: ARG001 - a changed object is read again
    return read_inputs(path)


def fragments_by_day(files: dict[str, Manifest]) -> dict[dt.date, dict[str, Digest]]:
    """Fragments that each event day has now: landing file -> digest of its rows."""
    by_day: dict[dt.date, dict[str, Digest]] = {}
    for identity, manifest in sorted(files.items()):
        for day in manifest.days:
            by_day.setdefault(day, {})[identity] = manifest.digest(day)
    return by_day


def _hashes(inputs: dict[dt.date, Inputs]) -> dict[dt.date, str]:
    return {day: fingerprint(of_day) for day, of_day in inputs.items()}


def _reason(was: Inputs, will: Inputs, files: dict[str, Manifest], has_refused: bool) -> str:
    """Describes what differs, in words; empty if nothing does.

    Rows in quarantine are found by their lines, and so on a day with some these count too.
    """
    if was == UNKNOWN:
        return "does not name what it was built from"
    if not has_refused or LINES not in was:
        was, will = rows_only(was), rows_only(will)
    changes = []
    for table, inputs in will.items():
        old = was.get(table, {})
        for change, names in (
            ("new", inputs.keys() - old.keys()),
            ("changed", {name for name in inputs.keys() & old.keys() if inputs[name] != old[name]}),
            ("gone", old.keys() - inputs.keys()),
        ):
            if names:
                shown = sorted(files[name].path if name in files else name for name in names)
                changes.append(f"{table} {change}: {_list(shown)}")
    return "; ".join(changes)


def _list(names: Iterable[str], most: int = 3) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
