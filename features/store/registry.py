"""Applies the feature registry from Python: views, services and aliases of one data set.

In come the data set and what its lake holds; out goes the Feast repository `feature_store/`.
Applying never takes anything away: what a service once promised stays registered. The scanner of
`feast apply` is not used, for it imports every file it finds.
"""

from dataclasses import dataclass
from shutil import copyfile
from typing import TYPE_CHECKING

import pyarrow as pa

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.copies import local_copy
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file
from contracts.lake.versions import version_named
from features.behavior.columns import widen
from features.behavior.tables import FEATURE_TABLES
from features.store import feast_objects
from features.store.check import check_view
from features.store.online import write_views
from features.store.promotions import drain, read_promotions, record_promotion
from features.store.repository import (
    REGISTRY,
    explained,
    locked,
    open_store,
    store_kinds,
    write_config,
)
from features.store.served import served_views
from features.store.services import (
    REPRESENTATION_SERVICE,
    known_services,
    name_of,
    point,
    promise,
)
from features.store.similar import build_index
from features.store.view_specs import (
    View,
    behavior_view,
    current_views,
    embedding_view,
    model_versions,
    opened_repository,
    record_views,
    repository,
    table_views,
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


def apply_registry(dataset: Dataset, lake: Lake) -> ApplyReport:
    """Registers the present views and every service ever promised. Idempotent.

    Each table of features gets a service of its own, whose alias, such as `user_behavior`, moves
    when its list changes; the task aliases follow that of behavior, with the version that was
    promoted last. A model version gets a view, and a service only when it is promoted.

    Raises:
      FootpathError: a view or service of that name is registered with other contents.
    """
    with locked(lake):
        drain(lake)
        views = record_views(lake, current_views(dataset, lake))
        aliases = known_services(lake).aliases
        leads = {
            alias: promise(lake, alias, given) for alias, given in _given(dataset, lake).items()
        }
        history = read_promotions(lake).of(REPRESENTATION_SERVICE).history
        if history and history[-1].service in known_services(lake).services:
            # A process may have ended before it had moved the alias.
            leads[REPRESENTATION_SERVICE] = history[-1].service
        if any(aliases.get(alias, name) != name for alias, name in leads.items()):
            _apply(dataset, lake, views)  # whoever follows an alias finds a service, and its rows
            write_views(lake, served_views(dataset, lake))
        point(lake, leads)
        return _apply(dataset, lake, views)


def _given(dataset: Dataset, lake: Lake) -> dict[str, list[View]]:
    """The views that aliases are to give: of tables, and of tasks that a version was promoted for.

    That of the representation moves by promotion alone.
    """
    given = {alias: [view] for alias, view in table_views(dataset, lake).items()}
    behavior, present = behavior_view(dataset, lake), set(model_versions(lake))
    for alias, record in read_promotions(lake).aliases.items():
        version = record.history[-1].version if record.history else ""
        if alias != REPRESENTATION_SERVICE and version in present:
            given[alias] = [behavior, embedding_view(lake, version)]
    return given


def promote(
    dataset: Dataset, lake: Lake, version: str, by: str = "command", reason: str = ""
) -> str:
    """Makes a model version the one that new work uses, and returns its service.

    The alias is `user_representation`, or the task of a fine-tuned version; its service gives the
    present behavior features and that version's vector, and prediction. A version that was
    promoted before, with the same features, gets its service back. Before the alias moves, the
    version's rows are online and were read back, its similar users are indexed, and the service is
    in the registry.

    Args:
      dataset: whose.
      lake: of the data set.
      version: which version.
      by: who promotes, for the ledger.
      reason: why, for the ledger.

    Raises:
      FootpathError: the version has no checkpoint or no embeddings, one of them is not finite, or
        the online store does not give back what was written.
    """
    with locked(lake):
        return promote_locked(dataset, lake, version, by, reason)


def promote_locked(
    dataset: Dataset, lake: Lake, version: str, by: str, reason: str, **changes: object
) -> str:
    """Promotes as `promote` does, where the caller holds the lock; `changes`: of its record."""
    alias = version_named(lake, version).task or REPRESENTATION_SERVICE
    wanted = [behavior_view(dataset, lake), embedding_view(lake, version)]
    known = known_services(lake)
    views = record_views(lake, wanted)
    name = name_of(known, alias, wanted)
    if known.aliases.get(alias) != name:
        _apply(dataset, lake, views)
        served = [view for view in served_views(dataset, lake) if view.name in views]
        write_views(lake, served)  # what is new of a user in one view is in the others as well
        _check_readable(lake, wanted[1])
        if alias == REPRESENTATION_SERVICE:
            build_index(dataset, lake, version)
        promise(lake, alias, wanted)
        _apply(dataset, lake, views)
    record_promotion(lake, alias, version, name, by, reason, **changes)
    point(lake, {alias: name})
    _apply(dataset, lake, views)
    return name


def _check_readable(lake: Lake, view: View) -> None:
    found = check_view(lake, view)
    if found.mismatches:
        raise FootpathError(
            f"{view.name} cannot be promoted, for the online store gives back other values than "
            f"were written: {found.mismatches[0]}"
        )


def _apply(dataset: Dataset, lake: Lake, known: dict[str, View]) -> ApplyReport:
    # Before Feast knows of a view, so that nobody reads it from objects that lack a column.
    for table in FEATURE_TABLES:
        of_table = [view for view in known.values() if view.table == table]
        columns = {c.source: pa.field(c.source, c.type) for view in of_table for c in view.columns}
        widen(lake, columns.values(), table)
    write_config(dataset, lake)
    promised = known_services(lake)
    views = {
        name: feast_objects.feature_view(lake, view, dataset.owner) for name, view in known.items()
    }
    entities = {view.entity: feast_objects.entity(view.entity) for view in known.values()}
    draining = read_promotions(lake).draining
    services = feast_objects.feature_services(promised, views, draining, dataset.owner)
    store = open_store(lake)
    online_store, registry = store_kinds(store)
    project = feast_objects.project(dataset.slug, dataset.title, promised.aliases)
    objects = [project, *entities.values(), *views.values(), *services]
    if registry == "file":
        _apply_to_file(lake, objects, promised.withdrawn)
    else:
        _apply_to(lake, store, objects, promised.withdrawn)
    return ApplyReport(
        project=dataset.slug,
        repository=str(opened_repository(lake)),
        registry=registry,
        online_store=online_store,
        views=sorted(views),
        services=sorted(promised.services),
        aliases=promised.aliases,
    )


def _apply_to_file(lake: Lake, objects: list, withdrawn: tuple[str, ...]) -> None:
    """Applies to a copy and publishes that: Feast writes its registry file in place."""
    target = repository(lake) / REGISTRY
    with lake.staging() as folder:
        staged = folder / target.name
        if target.exists():
            copyfile(local_copy(lake, target), staged)
        _apply_to(lake, open_store(lake, registry=staged), objects, withdrawn)
        publish_file(staged, target)


def _apply_to(lake: Lake, store: "FeatureStore", objects: list, withdrawn: tuple[str, ...]) -> None:
    with explained(lake, ", ".join(store_kinds(store))):
        registered = _registered(store)
        _refuse_others(store, registered, objects)
        store.apply(objects)
        for name in withdrawn:
            if name in registered:
                store.delete_feature_service(name)


def _registered(store: "FeatureStore") -> dict[str, dict]:
    views = {view.name: _fields_of_view(view) for view in store.list_feature_views()}
    return views | {s.name: _fields_of_service(s) for s in store.list_feature_services()}


def _refuse_others(store: "FeatureStore", registered: dict[str, dict], objects: list) -> None:
    """Refuses to give a registered name other features."""
    from feast import FeatureService, FeatureView

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


def _fields_of_view(view: "FeatureView") -> dict[str, str]:
    return {field.name: str(field.dtype) for field in view.features}


def _fields_of_service(service: "FeatureService") -> dict[str, list[str]]:
    return {
        projection.name: [feature.name for feature in projection.features]
        for projection in service.feature_view_projections
    }
