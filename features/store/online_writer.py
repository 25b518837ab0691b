"""The online store that the repository configures, ready to be written to.

A store with a method `online_write_arrow`, as those of `footpath_feast`, gets Arrow batches
of all views at once; any other that Feast has gets protobuf rows, a view after the other, so that
its YAML alone makes it work.
"""

import datetime as dt
import uuid
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from features.store.feast_objects import entity, feature_view, token_view
from features.store.repository import CONFIG, explained, open_store
from features.store.view_specs import View, opened_repository

if TYPE_CHECKING:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey


class OnlineWriter:
    """Writes rows of some views, whose tables it makes in case the store was lost."""

    def __init__(self, lake: Lake, views: list[View]) -> None:
        """Opens the store.

        Raises:
          FootpathError: there is no repository, its keys expire, or the store refuses.
        """
        from feast.infra.online_stores.helpers import get_online_store_from_config

        self._lake = lake
        self._config: Any = open_store(lake).config
        options = self._config.online_store
        self.kind: str = options.type
        self._file = opened_repository(lake) / CONFIG
        if getattr(options, "key_ttl_seconds", None):
            raise FootpathError(
                f"{self._file} sets key_ttl_seconds, and a user who expired would never be "
                "written again, for only changes are: remove it"
            )
        if hasattr(options, "skip_dedup"):
            options.skip_dedup = True  # a correction has the event timestamp of what it corrects
        self._store: Any = get_online_store_from_config(options)
        self._takes_arrow = hasattr(self._store, "online_write_arrow")
        self._tables = {view.name: feature_view(lake, view) for view in views}
        self._of_users = [self._tables[view.name] for view in views if view.entity == "user"]
        self._token_table = token_view()
        with explained(self._lake, self.kind):
            self._store.update(
                self._config,
                tables_to_delete=[],
                tables_to_keep=[*self._tables.values(), self._token_table],
                entities_to_delete=[],
                entities_to_keep=[entity(name) for name in sorted({v.entity for v in views})],
                partial=True,
            )

    def mark(self) -> tuple[str, int]:
        """Token and generation of this store; made in a new one, of generation 0.

        A lost and remade store has another token, and one that was restored an older generation.
        They are a row of a view without an entity, so that every online store can hold them.
        """
        with explained(self._lake, self.kind):
            ((_, row),) = self._store.online_read(
                self._config, self._token_table, [_no_entity()], ["token"]
            )
            if row and row["token"].string_val:
                token, _, generation = row["token"].string_val.partition(":")
                return token, int(generation)
        token = uuid.uuid4().hex
        self.set_mark(token, 0)
        return token, 0

    def set_mark(self, token: str, generation: int) -> None:
        """Gives the store its token and generation."""
        from feast.protos.feast.types.Value_pb2 import Value

        now = dt.datetime.now(dt.UTC)
        row = {"token": Value(string_val=f"{token}:{generation}")}
        with explained(self._lake, self.kind):
            self._store.online_write_batch(
                self._config, self._token_table, [(_no_entity(), row, now, now)], None
            )

    def write(self, batches: list[tuple[View, pa.RecordBatch]]) -> None:
        """Writes a batch of each of some views: users or items, the clocks and the features.

        What is written of a user comes to be seen in one step, where the store takes Arrow.
        """
        tables = [(self._tables[view.name], batch) for view, batch in batches]
        with explained(self._lake, self.kind):
            if self._takes_arrow:
                self._store.online_write_arrow(self._config, tables)
                return
            from footpath_feast.feast_private import write_rows

            for table, batch in tables:
                write_rows(self._store, self._config, table, batch)

    def delete(self, users: list[str]) -> int:
        """Deletes all rows of some users; returns how many of them had any.

        Raises:
          FootpathError: the store has no way to delete, or refuses.
        """
        from feast.protos.feast.types.Value_pb2 import Value

        delete = getattr(self._store, "online_delete", None)
        if delete is None:
            raise FootpathError(
                f"the online store of {self._file} ({self.kind}) has no way of Feast's to delete a "
                "user: delete their rows there by its own means, then forget them again with "
                "--online-is-done"
            )
        keys = {"user_id": [Value(string_val=user) for user in users]}
        with explained(self._lake, self.kind):
            return delete(self._config, self._of_users, keys)


def _no_entity() -> "EntityKey":
    """The key under which Feast keeps the one row of a view without an entity."""
    from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    value = Value(string_val=DUMMY_ENTITY_VAL)
    return EntityKey(join_keys=[DUMMY_ENTITY_ID], entity_values=[value])
