"""Private helpers of Feast 0.67 that the stores need: look here first when Feast is upgraded.

The stores also call what their base classes keep for themselves: `_get_conn` of the SQLite store,
`_get_client` of the Redis store.
"""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
from feast import FeatureView, RepoConfig
from feast.infra.online_stores.helpers import _mmh3, compute_versioned_name
from feast.infra.online_stores.online_store import OnlineStore
from feast.utils import _convert_arrow_to_proto

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


def redis_field(view: str, feature: str) -> bytes:
    """Field of a user's Redis hash that holds a feature."""
    return _mmh3(f"{view}:{feature}")
