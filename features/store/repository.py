"""The Feast repository on disk: its `feature_store.yaml`, how it is opened, and its lock.

The YAML is written from two environment variables, so that a downstream team opens the same
stores by the folder alone:

  FOOTPATH_ONLINE_STORE   redis://[user@]host:port[/db] or rediss://...; SQLite where it is unset;
                          or a file that ends in .yaml and holds `online_store` for any other store
  FOOTPATH_REGISTRY       postgresql://...; a file where it is unset

`stock/feature_store.yaml` opens the same stores with Feast alone, without `footpath_feast`.

No secret is written: Feast itself expands ${FOOTPATH_REGISTRY} and ${FOOTPATH_REDIS_PASSWORD}
in every process that opens the repository.
"""

import contextlib
import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

from contracts.base.disks import disk_sentence
from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.copies import local_copy
from contracts.lake.engine import memory_limit
from contracts.lake.layout import Lake, spill_folder
from contracts.lake.publishing import publish_text
from features.store.registry_contents import check_registry_file, check_registry_of
from features.store.view_specs import opened_repository, repository

if TYPE_CHECKING:
    from feast import FeatureStore

CONFIG = "feature_store.yaml"
REGISTRY = "registry.db"
REDIS_URL = re.compile(
    r"rediss?://([\w.-]+@)?([\w.-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?(/\d{0,4})?", re.ASCII
)

TEMPLATE = """\
# Written by Footpath from its environment; what is changed by hand is overwritten.
project: {project}
provider: local
registry:{registry}
online_store:{online_store}
offline_store:
  type: footpath_feast.asof.AsofOfflineStore
entity_key_serialization_version: 3
materialization:
  pull_latest_features: true
  online_write_batch_size: 10000
"""

FILE_REGISTRY = """
  path: registry.db
  cache_ttl_seconds: 60"""

SQL_REGISTRY = """
  registry_type: sql
  path: '${FOOTPATH_REGISTRY}'
  cache_ttl_seconds: 60"""

SQLITE = """
  type: footpath_feast.sqlite.SqliteOnlineStore
  path: online.db"""

REDIS = """
  type: footpath_feast.redis.RedisOnlineStore
  connection_string: '{address}'"""

# What stands otherwise where the same stores are opened with Feast alone, from a folder below.
STOCK = {
    "footpath_feast.sqlite.SqliteOnlineStore": "sqlite",
    "footpath_feast.redis.RedisOnlineStore": "redis",
    "footpath_feast.asof.AsofOfflineStore": "duckdb",
    "path: registry.db": "path: ../registry.db",
    "path: online.db": "path: ../online.db",
}


def write_config(dataset: Dataset, lake: Lake) -> None:
    """Writes `feature_store.yaml`, ours and for stock Feast, unless they are the same already.

    Raises:
      FootpathError: an environment variable holds something else than the URL it should.
    """
    text = TEMPLATE.format(
        project=dataset.slug,
        registry=_registry(os.environ.get("FOOTPATH_REGISTRY")),
        online_store=_online_store(os.environ.get("FOOTPATH_ONLINE_STORE")),
    )
    stock = text
    for ours, feasts in STOCK.items():
        stock = stock.replace(ours, feasts)
    for path, content in {CONFIG: text, f"stock/{CONFIG}": stock}.items():
        target = repository(lake) / path
        if not target.exists() or target.read_text() != content:
            publish_text(lake, content, target)


def open_store(lake: Lake, registry: Path | None = None) -> "FeatureStore":
    """Opens the repository with Feast; `registry` stands in for its registry file.

    Raises:
      FootpathError: there is no repository yet, its registry does not answer, or holds what Feast
        would run as code.
    """
    path = repository(lake) / CONFIG
    if not path.exists():
        raise FootpathError(
            f"{path} is not there: apply the feature registry first (asset feature_registry)"
        )
    from feast import FeatureStore
    from feast.repo_config import load_repo_config

    folder = opened_repository(lake)
    config: Any = load_repo_config(folder, local_copy(lake, path))
    # Of this machine, not of the repository.
    config.offline_store.memory_limit = memory_limit()
    config.offline_store.temp_directory = str(spill_folder() / "duckdb")
    published = repository(lake) / REGISTRY
    if registry:
        config.registry.path = str(registry)
    elif config.registry.registry_type == "file" and published.exists():
        registry = local_copy(lake, published)
    if registry:
        check_registry_file(registry, published)
    with explained(lake, f"registry: {config.registry.registry_type}"):
        store = FeatureStore(repo_path=str(folder), config=config)
        if config.registry.registry_type != "file":  # which parses nothing before it is asked
            check_registry_of(store.registry.proto(), store.project, "FOOTPATH_REGISTRY")
        return store


@contextlib.contextmanager
def explained(lake: Lake, kind: str) -> Iterator[None]:
    """Turns a fault of a store, of whatever class, into one sentence.

    Args:
      lake: whose repository.
      kind: type of the store.

    Raises:
      FootpathError: whatever was raised.
    """
    try:
        yield
    except FootpathError:
        raise
    except Exception as error:
        said = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        file = opened_repository(lake) / CONFIG
        told = disk_sentence(said, file.parent) or (
            f"the store of {file} ({kind}) refused: {said}; "
            "fix it and materialize again, nothing is lost"
        )
        raise FootpathError(told) from error


def store_kinds(store: "FeatureStore") -> tuple[str, str]:
    """The types of the online store and of the registry (file, sql)."""
    config: Any = store.config
    return config.online_store.type, str(config.registry.registry_type)


def locked(lake: Lake) -> contextlib.AbstractContextManager[None]:
    """Waits until no other process changes this repository, and keeps it so.

    Feast's file registry has no concurrent writers, nor have the ledgers.
    """
    return lake.locked("feature_store")


def _registry(url: str | None) -> str:
    if not url:
        return FILE_REGISTRY
    if not url.startswith(("postgresql://", "postgresql+")):
        raise FootpathError(
            "FOOTPATH_REGISTRY must be a URL such as postgresql://user:password@host:5432/name; "
            "unset it to keep the registry in a file"
        )
    return SQL_REGISTRY


def _online_store(url: str | None) -> str:
    if not url:
        return SQLITE
    if url.endswith(".yaml"):
        return _any_store(Path(url))
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise FootpathError(
            "FOOTPATH_ONLINE_STORE must be a URL such as redis://host:6379/0, rediss://... for "
            "TLS, or a .yaml file with the online_store of Feast; unset it to serve from SQLite"
        )
    # Whatever it says becomes text of a YAML, and options of a connection.
    if not parts.password and not REDIS_URL.fullmatch(url):
        raise FootpathError(
            "FOOTPATH_ONLINE_STORE has more than redis://user@host:port/database: other options "
            "of a connection stand in a .yaml file with the online_store of Feast"
        )
    if parts.password:
        raise FootpathError(
            "FOOTPATH_ONLINE_STORE holds a password, which would be written to feature_store.yaml: "
            "take it out and set FOOTPATH_REDIS_PASSWORD"
        )
    settings = [f"{parts.hostname}:{parts.port or 6379}", f"db={parts.path.strip('/') or 0}"]
    if parts.scheme == "rediss":
        settings.append("ssl=true")
    if parts.username:
        settings.append(f"username={parts.username}")
    if os.environ.get("FOOTPATH_REDIS_PASSWORD"):
        settings.append("password=${FOOTPATH_REDIS_PASSWORD}")
    return REDIS.format(address=",".join(settings))


def _any_store(path: Path) -> str:
    """Takes `online_store` as it stands in a file, with ${...} for Feast to expand."""
    text = path.read_text() if path.exists() else ""
    settings = yaml.safe_load(text)
    if not isinstance(settings, dict) or "type" not in settings:
        raise FootpathError(
            f"FOOTPATH_ONLINE_STORE names {path}, which must hold what Feast wants below "
            "online_store, such as `type: postgres` and its host: write it, or correct the path"
        )
    return "\n" + textwrap.indent(text.rstrip(), "  ")
