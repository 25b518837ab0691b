"""An online store that has what Feast asks of one and no more."""

# ruff: noqa: ARG002 (the signatures are Feast's)

from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar, Literal

from feast import Entity, FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.online_store import OnlineStore
from feast.repo_config import FeastConfigBaseModel


class DictOnlineStoreConfig(FeastConfigBaseModel):
    """A type, and an option that has to reach the store."""

    type: Literal["tests.footpath_feast.dict_store.DictOnlineStore"]
    room: str


class DictOnlineStore(OnlineStore):
    """Keeps rows in this process: (room, view) -> entity key -> (event timestamp, values)."""

    rows: ClassVar[dict[tuple[str, str], dict[bytes, tuple[datetime, dict]]]] = {}

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[tuple],
        progress: Callable[[int], Any] | None,
    ) -> None:
        for key, values, event, _ in data:
            row = {name: value.SerializeToString() for name, value in values.items()}
            self._table(config, table)[serialize_entity_key(key, 3)] = (event, row)

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list,
        requested_features: list[str] | None = None,
    ) -> list[tuple]:
        from feast.protos.feast.types.Value_pb2 import Value

        found = []
        for key in entity_keys:
            event, row = self._table(config, table).get(serialize_entity_key(key, 3), (None, None))
            values = row and {name: Value.FromString(value) for name, value in row.items()}
            found.append((event, values))
        return found

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: list[FeatureView],
        tables_to_keep: list[FeatureView],
        entities_to_delete: list[Entity],
        entities_to_keep: list[Entity],
        partial: bool,
    ) -> None:
        for table in tables_to_keep:
            self.rows.setdefault((config.online_store.room, table.name), {})

    def teardown(
        self, config: RepoConfig, tables: list[FeatureView], entities: list[Entity]
    ) -> None:
        self.rows.clear()

    def _table(self, config: RepoConfig, table: FeatureView) -> dict:
        return self.rows[config.online_store.room, table.name]
