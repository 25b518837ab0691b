"""Applies the feature registry from Python: views, services and aliases of one data set.

In come the data set and what its lake holds; out goes the Feast repository `feature_store/`.
Applying never takes anything away: what a service once promised stays registered. The scanner of
`feast apply` is not used, for it imports every file it finds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from shutil import copyfile
from types import MappingProxyType
from typing import TYPE_CHECKING

import pyarrow as pa

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.copies import local_copy
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file
from features.behavior.columns import widen
from features.store import feast_objects
from features.store.repository import REGISTRY, locked, open_store, store_kinds, write_config
from features.store.services import (
    BEHAVIOR_SERVICE,
    REPRESENTATION_SERVICE,
    known_services,
    point_alias,
)
from features.store.similar import build_index
from features.store.view_specs import (
    BEHAVIOR,
    View,
    behavior_view,
    current_views,
    embedding_view,
    opened_repository,
    record_views,
    repository,
)

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore, FeatureView


@dataclass(frozen=True)
class ApplyReport:
    """What is registered now."""

    project: str
    repository: str
    registry: str  # file or sql
    online_store: str  # its type, as in feature_store.yaml
    views: list[str]
    services: list[str]
    aliases: dict[str, str]


def apply_registry(
    dataset: Dataset, lake: Lake, tasks: Mapping[str, str] = MappingProxyType({})
) -> ApplyReport:
    """Registers the present views and every service ever promised. Idempotent.

    The behavior features get a service of their own, whose alias `user_behavior` moves when their
    list changes. A model version gets a view, and a service only when it is promoted. So does each
    task: `<task>__v<N>` gives the behavior features, and vector and prediction of its fine-tuned
    version.

    Args:
      dataset: whose views and services.
      lake: of the data set.
      tasks: the fine-tuned version of each task that has one.

    Raises:
      FootpathError: a view or service of that name is registered with other contents.
    """
    with locked(lake):
        views = record_views(lake, current_views(dataset, lake))
        behavior = behavior_view(dataset, lake)
        point_alias(lake, BEHAVIOR_SERVICE, [behavior])
        for task, version in tasks.items():
            point_alias(lake, task, [behavior, embedding_view(lake, version)])
        return _apply(dataset, lake, views)


def promote(dataset: Dataset, lake: Lake, version: str) -> str:
    """Makes a model version the one that new work uses, and returns its service.

    The service gives the present behavior features and that version's embedding. A version that
    was promoted before, with the same features, gets its service back: promoting an older version
    is how to go back to it. Where the version is another than before, its similar users are indexed
    first.

    Raises:
      FootpathError: the version has no checkpoint or no embeddings, or one of them is not finite.
    """
    with locked(lake):
        wanted = [behavior_view(dataset, lake), embedding_view(lake, version)]
        promoted = known_services(lake).promoted(REPRESENTATION_SERVICE)
        if promoted is None or promoted.tags["model_version"] != version:
            build_index(dataset, lake, version)
        views = record_views(lake, wanted)
        name = point_alias(lake, REPRESENTATION_SERVICE, wanted)
        _apply(dataset, lake, views)
        return name


def _apply(dataset: Dataset, lake: Lake, known: dict[str, View]) -> ApplyReport:
    # Before Feast knows of a view, so that nobody reads it from objects that lack a column.
    of_behavior = [view for view in known.values() if view.table == BEHAVIOR]
    columns = {c.source: pa.field(c.source, c.type) for view in of_behavior for c in view.columns}
    widen(lake, columns.values())
    write_config(dataset, lake)
    promised = known_services(lake)
    entity = feast_objects.user_entity()
    views = {name: feast_objects.feature_view(lake, view, entity) for name, view in known.items()}
    services = feast_objects.feature_services(promised, views)
    store = open_store(lake)
    online_store, registry = store_kinds(store)
    project = feast_objects.project(dataset.slug, dataset.title, promised.aliases)
    objects = [project, entity, *views.values(), *services]
    if registry == "file":
        _apply_to_file(lake, objects)
    else:
        _apply_to(store, objects)
    return ApplyReport(
        project=dataset.slug,
        repository=str(opened_repository(lake)),
        registry=registry,
        online_store=online_store,
        views=sorted(views),
        services=sorted(promised.services),
        aliases=promised.aliases,
    )


def _apply_to_file(lake: Lake, objects: list) -> None:
    """Applies to a copy and publishes that: Feast writes its registry file in place."""
    target = repository(lake) / REGISTRY
    with lake.staging() as folder:
        staged = folder / target.name
        if target.exists():
            copyfile(local_copy(lake, target), staged)
        _apply_to(open_store(lake, registry=staged), objects)
        publish_file(staged, target)


def _apply_to(store: "FeatureStore", objects: list) -> None:
    from feast import FeatureService, FeatureView

    registered = {view.name: _fields_of_view(view) for view in store.list_feature_views()}
    registered |= {s.name: _fields_of_service(s) for s in store.list_feature_services()}
    for thing in objects:
        if isinstance(thing, FeatureView):
            fields = _fields_of_view(thing)
        elif isinstance(thing, FeatureService):
            fields = _fields_of_service(thing)
        else:
            continue
        if registered.get(thing.name, fields) != fields:
            raise FootpathError(
                f"{thing.name} is in the registry of project {store.project} with other features: "
                f"restore {store.repo_path}/views.json and services.json, which number the "
                "versions, or use a registry of this lake's own"
            )
    store.apply(objects)


def _fields_of_view(view: "FeatureView") -> dict[str, str]:
    return {field.name: str(field.dtype) for field in view.features}


def _fields_of_service(service: "FeatureService") -> dict[str, list[str]]:
    return {
        projection.name: [feature.name for feature in projection.features]
        for projection in service.feature_view_projections
    }
