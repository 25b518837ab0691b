"""Private helpers of Feast 0.67 that the stores need: look here first when Feast is upgraded.

The stores also call what their base classes keep for themselves: `_get_conn` of the SQLite store,
`_get_client` of the Redis store.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from feast import FeatureService, FeatureView, RepoConfig, metrics
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _mmh3, compute_versioned_name
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.utils import _convert_arrow_to_proto, _prepare_entities_to_read_from_online_store

Progress = Callable[[int], Any]


def write_rows(
    store: OnlineStore,
    config: RepoConfig,
    table: FeatureView,
    batch: pa.RecordBatch,
    progress: Progress | None = None,
) -> None:
    """Writes an Arrow batch to any online store of Feast, as protobuf rows."""
    join_keys = {column.name: column.dtype.to_value_type() for column in table.entity_columns}
    rows = _convert_arrow_to_proto(batch, table, join_keys)
    store.online_write_batch(config, table, rows, progress)


def versioned_name(config: RepoConfig, table: FeatureView) -> str:
    """Name of a view in an online store, with its version where the registry asks for it."""
    versioning: Any = config.registry
    return compute_versioned_name(table, versioning.enable_online_feature_view_versioning)


def clocks(
    table: FeatureView, batch: pa.RecordBatch
) -> tuple[pa.TimestampArray, pa.TimestampArray | None]:
    """Event timestamps of a batch, and when its rows were created, where the view's source says."""
    source: Any = table.batch_source
    created = source.created_timestamp_column
    return batch.column(source.timestamp_field), batch.column(created) if created else None


@functools.cache
def redis_field(view: str, feature: str) -> bytes:
    """Field of a user's Redis hash that holds a feature."""
    return _mmh3(f"{view}:{feature}")


@dataclass(frozen=True)
class Request:
    """An online read: what is asked, in which order, and of whom."""

    views: list[tuple[FeatureView, list[str]]]
    names: list[str]  # of the columns, in the order of the service or list
    entities: GetOnlineFeaturesResponse  # the columns of the entities alone
    join_key_values: dict[str, list[Value]]
    full_names: bool
    uniform: bool  # all views have the same keys, and Feast makes nothing on demand

    def name_of(self, table: FeatureView, feature: str) -> str:
        """Name of a feature's column."""
        return _column_name(table.projection.name_to_use(), feature, self.full_names)


def prepared(
    registry: Any,
    project: str,
    features: list[str] | FeatureService,
    entity_rows: list[dict[str, Any]] | Mapping[str, Any],
    full_names: bool,
) -> Request:
    """Resolves a request through Feast, which checks it, and keeps its order.

    Raises:
      ValueError: rows of entities have different keys.
    """
    if isinstance(entity_rows, list):
        columns = list(entity_rows[0])
        if any(row.keys() != entity_rows[0].keys() for row in entity_rows):
            raise ValueError("All entity_rows must have the same keys.")
        entity_rows = {column: [row[column] for row in entity_rows] for column in columns}
    values, grouped, _, on_demand, references, _, entities = (
        _prepare_entities_to_read_from_online_store(
            registry, project, features, entity_rows, full_names
        )
    )
    place = {reference: number for number, reference in enumerate(references)}
    views = []
    for table, asked in grouped:
        view = table.projection.name_to_use()
        views.append((table, sorted(asked, key=lambda name: place.get(f"{view}:{name}", -1))))
    keys = {frozenset(table.join_keys) for table, _ in views}
    uniform = (
        not on_demand
        and not getattr(features, "precompute_online", False)
        and keys == {frozenset(values)}
        and not any(table.projection.join_key_map for table, _ in views)
    )
    names = [_column_name(*reference.split(":", 1), full_names) for reference in place]
    return Request(views, names, entities, values, full_names, uniform)


def entity_keys_of(config: RepoConfig, request: Request) -> list[bytes]:
    """Serialized entity key of every row of a request."""
    names, version = list(request.join_key_values), config.entity_key_serialization_version
    return [
        serialize_entity_key(EntityKey(join_keys=names, entity_values=row), version)
        for row in zip(*request.join_key_values.values(), strict=True)
    ]


def measured() -> bool:
    """Whether the metrics of Feast's feature server are on."""
    return metrics._config.online_features


def _column_name(view: str, feature: str, full_names: bool) -> str:
    return f"{view}__{feature}" if full_names else feature
