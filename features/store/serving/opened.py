"""The feature services of one data set, kept open between reads.

In:  an applied registry. Out: values of a service's features, in the service's order, with the
time of each view's row, and who is known. Feast looks a service up in 35 ms: here the objects are
those of one moment, until `moment` says that something was applied since.
"""

import datetime as dt
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from contracts.base.errors import TransientError
from contracts.lake.layout import Lake
from contracts.lake.reading import stamps
from features.store.promotions import read_promotions
from features.store.repository import CONFIG, REGISTRY, explained, open_store, store_kinds
from features.store.services import Service, Services, known_services
from features.store.view_specs import View, known_views, opened_repository, repository

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore

DOCUMENTS = ("services.json", "views.json", "promotions.json", CONFIG, REGISTRY)
# Seconds: a store that has gone must not keep a request, and those behind it, for minutes.
REDIS_WAITS = {"socket_connect_timeout": 2, "socket_timeout": 5}
SQLITE_WAITS_MS = 2_000  # for a writer to let go of the file

LOG = logging.getLogger("footpath.serve")


@dataclass(frozen=True)
class Read:
    """What was read of a service: a column a feature, a value a user or item."""

    names: list[str]
    columns: list[list[Any]]  # None: not known, or no value
    views: list[str]
    seconds: list[list[int]]  # of each view: when its row is from, unix; 0: no row

    @property
    def known(self) -> list[bool]:
        """Whether any view has a row of each."""
        return [any(times) for times in zip(*self.seconds, strict=True)]


@dataclass(frozen=True)
class OpenedServices:
    """Services as of one moment."""

    lake: Lake
    services: Services
    draining: dict[str, str]  # service -> its last day
    missing: list[str]  # services that were promised and are not in the registry
    views: dict[str, View]
    _store: "FeatureStore"
    _objects: dict[str, "FeatureService"]

    def read(self, name: str, ids: list[str], view: str | None = None) -> Read:
        """Reads all features of a service, or those of one of its views, for ids in their order.

        Raises:
          TransientError: the online store does not answer.
        """
        service = self.services.services[name]
        asked: Any = self._objects[name]
        if view is not None:
            service = Service({view: service.features[view]}, service.tags)
            asked = [f"{view}:{feature}" for feature in service.features[view]]
        try:
            response = self._store.get_online_features(asked, {f"{self.entity_of(name)}_id": ids})
            found = response.to_dict(include_event_timestamps=True)
        except Exception as error:
            LOG.exception("the online store of %s failed", self.lake.root.name)
            raise TransientError(
                f"the online store of {self.lake.root.name} does not answer "
                f"({type(error).__name__}): try again"
            ) from None
        return _ordered(service, found)

    def entity_of(self, name: str) -> str:
        """Whose features a service gives: of a `user`, or of an `item`."""
        return self.views[next(iter(self.services.services[name].features))].entity

    def columns_of(self, name: str) -> list[str]:
        """The names of a service's features, in its order."""
        return _names(self.services.services[name])


def open_services(lake: Lake) -> OpenedServices:
    """Opens the registry, and looks all services up.

    Raises:
      FootpathError: no registry was applied, it does not answer, or holds what Feast would run as
        code.
    """
    promised = known_services(lake)
    store = open_store(lake)
    _fail_fast(store)
    registry: Any = store.registry
    registry.cached_registry_proto_ttl = dt.timedelta(0)  # it is never read within a request
    with explained(lake, store_kinds(store)[1]):
        objects = {service.name: service for service in store.list_feature_services()}
    services = {n: service for n, service in promised.services.items() if n in objects}
    aliases = {alias: name for alias, name in promised.aliases.items() if name in services}
    missing = sorted(promised.services.keys() - services.keys())
    draining = read_promotions(lake).draining
    known = Services(services, aliases)
    return OpenedServices(lake, known, draining, missing, known_views(lake), store, objects)


def moment(lake: Lake) -> tuple:
    """What changes when services, registry or the file of an online store are other ones."""
    found = stamps(repository(lake), "*")
    database = opened_repository(lake) / "online.db"
    inode = database.stat().st_ino if database.exists() else 0
    return (*(found.get(name) for name in DOCUMENTS), inode)


def _fail_fast(store: "FeatureStore") -> None:
    """Bounds how long a read waits for an online store that is locked, or has gone."""
    from feast.infra.online_stores.redis import RedisOnlineStore
    from feast.infra.online_stores.sqlite import SqliteOnlineStore
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    online: Any = store._get_provider().online_store
    options: Any = store.config.online_store
    if isinstance(online, SqliteOnlineStore):
        online._get_conn(store.config).execute(f"PRAGMA busy_timeout = {SQLITE_WAITS_MS}")
    elif isinstance(online, RedisOnlineStore):
        new = [f"{k}={v}" for k, v in REDIS_WAITS.items() if k not in options.connection_string]
        options.connection_string = ",".join([options.connection_string, *new])
        client = online._get_client(options)
        if isinstance(client, Redis):  # by itself it tries for seven seconds
            client.set_retry(Retry(NoBackoff(), 1))


def _names(service: Service) -> list[str]:
    return [name for features in service.features.values() for name in features]


def _ordered(service: Service, found: dict[str, list]) -> Read:
    names = _names(service)
    first = [features[0] for features in service.features.values()]
    return Read(
        names=names,
        columns=[found[name] for name in names],
        views=list(service.features),
        seconds=[found[f"{name}__ts"] for name in first],
    )
