"""Which days the live model versions have yet to embed, or to embed again.

In:  published events and embeddings, and the versions that are served. Out: cells of day x version.
"""

import datetime as dt

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.versions import ModelVersion, all_versions
from features.store.freshness import event_histories, feature_histories, stale_embeddings
from features.store.services import REPRESENTATION_SERVICE, known_services
from orchestration.experiments.store import facts_of
from orchestration.promotion.candidates import versions_to_serve

NEW, STALE = "new", "stale"


def due_cells(dataset: Dataset, lake: Lake) -> dict[tuple[dt.date, str], tuple[str, str]]:
    """(day, version) -> whether its embeddings are new or stale, and a hash of what they are of.

    Of each version that is served, or may be next: every day from the first that it has embedded,
    and of a promoted one the days before its training too, as `automation.embeddings` says.
    """
    events = event_histories(lake)
    features = lake.days("user_behavior_features")
    if not features or not events:
        return {}
    last, of_profiles = features[-1], feature_histories(lake, events)
    promoted = known_services(lake).promoted(REPRESENTATION_SERVICE)
    leading = promoted.tags["model_version"] if promoted else None
    known = {version.version: version for version in all_versions(lake)}
    found: dict[tuple[dt.date, str], tuple[str, str]] = {}
    for version in versions_to_serve(dataset, lake):
        histories = of_profiles if _reads_features(lake, known[version]) else events
        embedded, stale = stale_embeddings(lake, version, histories)
        first = min(embedded, default=last)
        if version == leading:
            back = dt.timedelta(days=dataset.automation.embeddings.history_days)
            first = min(first, dt.date.fromisoformat(known[version].as_of) - back)
        for day in histories:
            if first <= day <= last and day not in embedded:
                found[day, version] = (NEW, histories[day])
        found |= {(day, version): (STALE, histories[day]) for day in stale}
    return found


def _reads_features(lake: Lake, version: ModelVersion) -> bool:
    task = facts_of(lake, version).task if version.task else None
    return task is not None and task.reads_features
