"""What of the feature store is behind the lake: embeddings, the registry, online rows, the index.

In:  published events and embeddings, and what each part of the store says it was made from. Out:
what is to be made again, in words. Nothing here asks the online store itself.
"""

import datetime as dt
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from contracts.base.hashing import hash_json
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.reading import read_metadata, read_schema, side_by_side, stamps
from contracts.lake.schemas import BUILT_FROM, READ_WITH
from features.behavior.tables import BEHAVIOR, FEATURE_TABLES
from features.provenance import fingerprint, parse_inputs
from features.store.changes import state_path
from features.store.promotions import drained
from features.store.served import served_views
from features.store.services import (
    REPRESENTATION_SERVICE,
    known_services,
)
from features.store.similar import indexed_objects
from features.store.view_specs import EMBEDDINGS, View, current_views, known_views, table_views

SERVICES = [table.service for table in FEATURE_TABLES.values()]  # their aliases follow no model


def event_histories(lake: Lake) -> dict[dt.date, str]:
    """Hash of all events up to each published day: what its embeddings are made from."""
    return _histories(lake, "events")


def feature_histories(lake: Lake, events: Mapping[dt.date, str]) -> dict[dt.date, str]:
    """The same with all behavior features up to each day that has some: what a profile reads."""
    features = _histories(lake, BEHAVIOR.name)
    return {day: hash_json([events[day], features[day]]) for day in features if day in events}


def _histories(lake: Lake, name: str) -> dict[dt.date, str]:
    table = lake.table(name)
    found = sorted(stamps(table).items())
    footers = side_by_side(lambda item: _footer(table / item[0], item[1]), found)
    histories, before = {}, ""
    for (file, _), (built_from, _) in zip(found, footers, strict=True):
        before = hash_json([before, fingerprint(parse_inputs(built_from))])
        histories[dt.date.fromisoformat(file.removesuffix(".parquet"))] = before
    return histories


def embedded_days(lake: Lake, version: str) -> dict[dt.date, tuple[str, str]]:
    """Embedded days of a model version, in order: hashes of their events, and of all else.

    The second is what `READ_WITH` says in the footer of the day's object.
    """
    table = lake.table(f"{EMBEDDINGS}/{version}")
    found = sorted(stamps(table).items())
    footers = side_by_side(lambda item: _footer(table / item[0], item[1]), found)
    days = (dt.date.fromisoformat(name.removesuffix(".parquet")) for name, _ in found)
    return {
        day: ((built_from or b"").decode(), (read_with or b"").decode())
        for day, (built_from, read_with) in zip(days, footers, strict=True)
    }


def stale_embeddings(
    lake: Lake, version: str, histories: Mapping[dt.date, str]
) -> tuple[list[dt.date], list[dt.date]]:
    """Embedded days of a model version, and those of them whose events have changed since."""
    embedded = embedded_days(lake, version)
    stale = [
        day
        for day, (built_from, _) in embedded.items()
        if day in histories and built_from != histories[day]
    ]
    return [*embedded], stale


def store_behind(dataset: Dataset, lake: Lake) -> list[str]:
    """What the registry, the online store or the index of similar users lacks, in words."""
    if not any(stamps(lake.table(BEHAVIOR.name))):
        return []
    behind = []
    known, services = known_views(lake), known_services(lake)
    views = current_views(dataset, lake)
    unregistered = [view.name for view in views if view.name not in known]
    wanted = {alias: view.name for alias, view in table_views(dataset, lake).items()}
    for alias, view in wanted.items():
        service = services.promoted(alias)
        if service is None or view not in service.features:
            unregistered.append(f"service {alias}")
    behavior = wanted[BEHAVIOR.service]
    unregistered += [
        f"service {alias}"
        for alias, name in services.aliases.items()
        if alias not in (*SERVICES, REPRESENTATION_SERVICE)
        and behavior not in services.services[name].features
    ]
    if unregistered:
        behind.append(f"not registered: {', '.join(unregistered)}")
    behind += [
        f"not online: {unsent} days of {view.name}"
        for view in served_views(dataset, lake)
        if (unsent := _unsent(lake, view))
    ]
    behind += [f"the last day of {name} is over" for name in drained(lake)]
    promoted = services.promoted(REPRESENTATION_SERVICE)
    if promoted:
        version = promoted.tags["model_version"]
        if indexed_objects(lake, version) != stamps(lake.table(f"{EMBEDDINGS}/{version}")):
            behind.append(f"similar users are not those of the newest vectors of {version}")
    return behind


def _unsent(lake: Lake, view: View) -> int:
    """Day objects of a view that the online store was not brought up to date with."""
    there, path = stamps(lake.table(view.table)), state_path(lake, view)
    sent = {}
    if path.exists():
        sent = json.loads((read_schema(path).metadata or {})[b"footpath"])["objects"]
    return sum(sent.get(name) != stamp for name, stamp in there.items())


@lru_cache(maxsize=50_000)
def _footer(path: Path, stamp: str) -> tuple[bytes | None, bytes | None]:  # noqa: ARG001 - changed: read again
    """What a footer says of BUILT_FROM and READ_WITH."""
    said = read_metadata(path).metadata or {}
    return said.get(BUILT_FROM), said.get(READ_WITH)
