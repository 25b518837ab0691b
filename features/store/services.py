"""The feature services as plain data: the ledger of every promise made to a downstream team.

`services.json` holds each service's exact contents and the aliases that say which service new
work should use. A service carries its version in its name and never changes: a classifier that
was trained on one embedding must not be fed another. What changes is the alias.
"""

import dataclasses
import re
from dataclasses import dataclass

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json
from contracts.lake.reading import read_json
from features.store.view_specs import View, repository

REPRESENTATION_SERVICE = "user_representation"


@dataclass(frozen=True)
class Service:
    """One feature service: view -> its features, and what is known of the model behind them."""

    features: dict[str, list[str]]
    tags: dict[str, str]


@dataclass(frozen=True)
class Services:
    """Every service that was promised by name, and alias -> the service to use now."""

    services: dict[str, Service]
    aliases: dict[str, str]
    withdrawn: tuple[str, ...] = ()  # retired: no other service gets their names

    @property
    def views(self) -> set[str]:
        """The names of all views that a service gives features of."""
        return {view for service in self.services.values() for view in service.features}

    def promoted(self, alias: str) -> Service | None:
        """The service that an alias points at; None where nothing was promoted yet."""
        return self.services[self.aliases[alias]] if alias in self.aliases else None


def known_services(lake: Lake) -> Services:
    """What `services.json` holds."""
    path = repository(lake) / "services.json"
    if not path.exists():
        return Services({}, {})
    document = read_json(path)
    services = {name: Service(**service) for name, service in document["services"].items()}
    return Services(services, document["aliases"], tuple(document["withdrawn"]))


def name_of(known: Services, alias: str, views: list[View]) -> str:
    """The service of an alias that gives these views: `<alias>__v<N>`, the next N for new ones."""
    features = _features(views)
    named = [*known.services, *known.withdrawn]
    family = [name for name in named if re.fullmatch(rf"{alias}__v\d+", name)]
    alike = (n for n in family if n in known.services and known.services[n].features == features)
    newest = max((int(n.rpartition("__v")[2]) for n in family), default=0)
    return next(alike, f"{alias}__v{newest + 1}")


def promise(lake: Lake, alias: str, views: list[View]) -> str:
    """Promises the service of an alias that gives these views, and returns its name.

    The alias stays where it is: it follows once the service can be read.
    """
    known = known_services(lake)
    name = name_of(known, alias, views)
    tags = {key: value for view in views for key, value in view.tags.items()}
    _publish(
        lake,
        dataclasses.replace(
            known, services={name: Service(_features(views), tags)} | known.services
        ),
    )
    return name


def point(lake: Lake, aliases: dict[str, str]) -> None:
    """Points aliases at services that were promised."""
    known = known_services(lake)
    _publish(lake, dataclasses.replace(known, aliases=known.aliases | aliases))


def _features(views: list[View]) -> dict[str, list[str]]:
    return {view.name: [column.name for column in view.columns] for view in views}


def _publish(lake: Lake, services: Services) -> None:
    if services != known_services(lake):
        publish_json(lake, dataclasses.asdict(services), repository(lake) / "services.json")


def withdraw(lake: Lake, names: list[str]) -> None:
    """Takes services back that nobody reads any more; no alias may lead to them."""
    known = known_services(lake)
    left = {name: service for name, service in known.services.items() if name not in names}
    withdrawn = tuple(sorted({*known.withdrawn, *names}))
    _publish(lake, dataclasses.replace(known, services=left, withdrawn=withdrawn))


def promoted_version(lake: Lake) -> str:
    """The model version behind the alias `user_representation`.

    Raises:
      FootpathError: none was promoted yet.
    """
    promoted = known_services(lake).promoted(REPRESENTATION_SERVICE)
    if promoted is None:
        raise FootpathError(
            f"no model version of {lake.root.name} was promoted yet: materialize user_embeddings, "
            "then feature_registry; or name a version"
        )
    return promoted.tags["model_version"]
