"""Staleness: which published days were built from other data, or features, than there are now.

In:  the manifests of landing files, the list of features, and the inputs that every published day
names (features/provenance.py). Out: the days of events, sessions and behavior features that a
rebuild would build from something else, each with the reason.

A late row changes the fragment of its day D, so events D are stale; the other days of its landing
file keep their rows, and are not. From the fragments follows the fingerprint that the rebuilt
events will have, from it what sessions D to D+2 will be built from, and from theirs the features up
to D+32: whatever differs from what the objects name is stale. Nothing is remembered between a
change and its rebuild, so a run that is killed between events and sessions leaves sessions stale;
and as only data counts, a file that is delivered again as it was makes nothing stale.

A feature that is new, or means something else (features/behavior/meanings.py), makes every
published day of features stale. One that was removed makes none stale, nor does what only it read.

A day that was never published is due where the caller expects it (completeness.py); one that lacks
a table before it is not. Nor is one that the gate has stopped, as long as it would be built from
the same data and judged by the same rules (stops.py): it stands still until one of these changes.
"""

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_json
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.reading import side_by_side, stamps
from contracts.lake.schemas import FEATURES
from features.behavior.build import feature_needs
from features.behavior.columns import check_declared
from features.behavior.feature_fields import feature_schema
from features.behavior.meanings import feature_meanings
from features.behavior.tables import FEATURE_TABLES, feature_tables
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
from features.stops import FOLDER as STOPS
from features.stops import Stop, all_stops, rules_hash

# Of which tables a day is made.
MADE_OF = {"events": (), "sessions": ("events",)} | dict.fromkeys(
    FEATURE_TABLES, ("events", "sessions")
)


def daily_tables(dataset: Dataset) -> list[str]:
    """The tables that are rebuilt, in order."""
    return ["events", "sessions", *(table.name for table in feature_tables(dataset))]


@dataclass(frozen=True)
class StaleDays:
    """The days that are stale, in order of table and day."""

    reasons: dict[str, dict[dt.date, str]]  # table -> day -> why, in a few words
    marks: dict[str, dict[dt.date, str]]  # table -> day -> the object now, and what it will be of
    standing: dict[str, dict[dt.date, Stop]]  # table -> day that would be due -> why it is not

    @property
    def days(self) -> list[dt.date]:
        """The days on which any table is stale."""
        return sorted({day for of_table in self.reasons.values() for day in of_table})

    def span(self, max_days: int) -> tuple[dt.date, dt.date]:
        """The first range to build, of at most so many days; the rest comes after it."""
        first = self.days[0]
        end = first + dt.timedelta(days=max_days)
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


def find_stale(dataset: Dataset, lake: Lake, expected: Iterable[dt.date] = ()) -> StaleDays:
    """Finds the published days that are stale, and expected ones that were never built.

    What has not changed since the last call in this process is not read again; where nothing has,
    a few listings are all it costs.

    Args:
      dataset: whose days.
      lake: of the data set.
      expected: days that are to be built for the first time where they are not.

    Raises:
      FootpathError: a landing file was read by another release; or a fragment is gone, so that a
        rebuild would lose rows; or a feature is published with another type.
    """
    expected = sorted(expected)
    state = _state(dataset, lake, expected)
    if (known := _KNOWN.get(lake.root)) and known[0] == state:
        return known[1]
    of_features = {table.name: table for table in feature_tables(dataset)}
    for name, table in of_features.items():
        check_declared(lake, feature_schema(table.fields(dataset), table.key), name)
    files, tables = readable_manifests(lake), daily_tables(dataset)
    objects = {table: _objects(lake, table) for table in tables}
    was = {table: _read(lake, table, objects[table]) for table in tables}
    by_day = fragments_by_day(files)
    refused = _objects(lake, "quarantine/events")
    rules, stops = rules_hash(dataset), all_stops(lake)
    needs = {"sessions": session_needs} | {
        name: partial(feature_needs, table=table) for name, table in of_features.items()
    }
    # Fingerprints of each table as it will be: published, or about to be.
    hashes: dict[str, dict[dt.date, str]] = {}
    reasons: dict[str, dict[dt.date, str]] = {}
    standing: dict[str, dict[dt.date, Stop]] = {}
    marks: dict[str, dict[dt.date, str]] = {}
    for table in tables:
        before = MADE_OF[table]
        days = sorted({*was[table], *expected})
        # Without a day of events, be it that it stands still, there is none of sessions.
        days = [day for day in days if all(day in hashes[each] for each in before)]
        if table == "events":
            will = {day: digest_inputs(by_day.get(day, {})) for day in days}
        else:
            will = inputs_from({day: needs[table](dataset, day) for day in days}, hashes)
        if table in of_features:
            meanings = feature_meanings(dataset, of_features[table])
            will = {day: {FEATURES: meanings} | inputs for day, inputs in will.items()}
            was[table] = {
                day: _still_asked(inputs, needs[table](dataset, day), meanings)
                for day, inputs in was[table].items()
            }
        found = _hashes(will)
        marks[table] = {day: f"{objects[table].get(day)} {found[day]} {rules}" for day in days}
        due = {
            day: reason
            for day in days
            if (
                reason := _reason(was[table].get(day), will[day], files, day in refused)
                or ((table, day) in stops and "was stopped, and is as it was published again")
            )
            and all(day in objects[each] for each in before)
        }
        standing[table] = {
            day: stops[table, day]
            for day in due
            if (table, day) in stops and stops[table, day].is_of(found[day], rules)
        }
        reasons[table] = {day: due[day] for day in due if day not in standing[table]}
        # A day that stands still stays what it was to those after it, which is nothing if it was
        # never built.
        kept = {day: fingerprint(was[table][day]) for day in standing[table] if day in was[table]}
        hashes[table] = {day: h for day, h in found.items() if day not in standing[table]} | kept
    for day in reasons["events"]:
        _check_fragments(lake, day, by_day.get(day, {}), files)
    stale = StaleDays(reasons, marks, standing)
    _KNOWN[lake.root] = (state, stale)
    return stale


# By lake: what the last call in this process has found, and a hash of what it followed from.
_KNOWN: dict[Path, tuple[str, StaleDays]] = {}


def _state(dataset: Dataset, lake: Lake, expected: list[dt.date]) -> str:
    """Hash that stays as long as nothing can have become stale: of listings and the YAML."""
    tables = daily_tables(dataset)
    folders = [lake.table(table) for table in (*tables, "quarantine/events")]
    found = [sorted(stamps(folder).items()) for folder in folders]
    jsons = [manifests_folder(lake), *(lake.root / STOPS / table for table in tables)]
    found += [sorted(stamps(folder, "*.json").items()) for folder in jsons]
    return hash_json([dataset.model_dump(mode="json"), [str(day) for day in expected], found])


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


def _still_asked(
    inputs: Inputs, needs: Mapping[str, list[dt.date]], features: Collection[str]
) -> Inputs:
    """Inputs of a day of features, without what only a feature that was removed read."""
    asked: dict[str, Collection[str]] = {table: {*map(str, days)} for table, days in needs.items()}
    asked |= {FEATURES: features}
    return {
        table: {name: value for name, value in of_table.items() if name in asked[table]}
        if table in asked
        else of_table
        for table, of_table in inputs.items()
    }


def _reason(was: Inputs | None, will: Inputs, files: dict[str, Manifest], has_refused: bool) -> str:
    """Describes what differs, in words; empty if nothing does.

    Rows in quarantine are found by their lines, and so on a day with some these count too.
    """
    if was is None:
        return "was never built"
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
