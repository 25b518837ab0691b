"""Which views the online store must hold: the present ones, and those that old services still need.

A service is served until it is drained, so a view of an earlier list of features is kept up to
date beside the present one. A feature that was removed is null in rows that were built since.
"""

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.versions import all_versions
from features.store.services import known_services
from features.store.view_specs import View, current_views, known_views


def served_views(dataset: Dataset, lake: Lake) -> list[View]:
    """The present views, then those that only older services give features of."""
    views = current_views(dataset, lake)
    older = known_services(lake).views - {view.name for view in views}
    known = known_views(lake)
    return views + [known[name] for name in sorted(older)]


def served_versions(lake: Lake) -> set[str]:
    """The model versions that a service gives features of."""
    known = known_views(lake)
    tags = (known[name].tags for name in known_services(lake).views)
    return {found["model_version"] for found in tags if "model_version" in found}


def missing_models(lake: Lake) -> list[str]:
    """The model versions that a service names and whose checkpoint is gone: no day is embedded."""
    finished = {v.version for v in all_versions(lake) if v.is_finished(lake)}
    return sorted(served_versions(lake) - finished)
