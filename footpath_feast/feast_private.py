"""Private helpers of Feast 0.67 that the stores need: look here first when Feast is upgraded.

The stores also call what their base classes keep for themselves: `_get_conn` of the SQLite store,
`_get_client` of the Redis store; the offline store calls `_read_data_source` and
`_write_data_source` of Feast's, for sources that are not Parquet and for saved data sets.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
from feast import FeatureService, FeatureView, RepoConfig, ValueType, metrics
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _mmh3, compute_versioned_name
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.utils import _convert_arrow_to_proto, _prepare_entities_to_read_from_online_store

Progress = Callable[[int], Any]
Batches = Sequence[tuple[FeatureView, pa.RecordBatch]]  # rows of some views


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


class PlannedColumn(NamedTuple):
    """One column of a response: where it is found, and what it holds."""

    name: str
    view: int  # number of its view
    place: int  # of the feature among those asked of the view
    kind: ValueType


@dataclass(frozen=True)
class Plan:
    """What an online read asks, and in which order."""

    views: list[tuple[FeatureView, list[str]]]
    columns: list[PlannedColumn]  # in the order of the service or list
    join_keys: set[str] | None  # of all views; None where they differ, or Feast has to compute


_plans: dict[tuple, Plan] = {}


def prepared(
    registry: Any,
    project: str,
    features: list[str] | FeatureService,
    entity_rows: list[dict[str, Any]] | Mapping[str, Any],
    full_names: bool,
) -> tuple[Plan, dict[str, list[Value]], GetOnlineFeaturesResponse]:
    """Resolves and checks a request through Feast, and keeps its order.

    Returns:
      The plan, the values of the join keys, and a response with the columns of the entities.

    Raises:
      ValueError: there are no rows, or they have different keys.
      TypeError: an id is a float.
    """
    if isinstance(entity_rows, list):
        if not entity_rows:
            raise ValueError("entity_rows is empty: name at least one entity")
        columns = list(entity_rows[0])
        if any(row.keys() != entity_rows[0].keys() for row in entity_rows):
            raise ValueError("All entity_rows must have the same keys.")
        entity_rows = {column: [row[column] for row in entity_rows] for column in columns}
    values, grouped, _, on_demand, references, _, entities = (
        _prepare_entities_to_read_from_online_store(
            registry, project, features, entity_rows, full_names
        )
    )
    for name in {key for table, _ in grouped for key in table.join_keys} & entity_rows.keys():
        _check_ids(name, entity_rows[name])
    computed = bool(on_demand) or getattr(features, "precompute_online", False)
    key = (tuple(references), full_names, computed)
    plan = _plans.get(key)
    # Feast keeps the views of a resolved request until the registry changes.
    if plan is None or [id(t) for t, _ in plan.views] != [id(t) for t, _ in grouped]:
        if len(_plans) > 1_000:
            _plans.clear()
        plan = _plans[key] = _plan(grouped, references, full_names, computed)
    return plan, values, entities


def _check_ids(column: str, ids: Any) -> None:
    """Refuses floats: Feast would look for an id '1.0', and find nothing."""
    for value in () if hasattr(ids, "val") else ids:
        if isinstance(value, float):
            raise TypeError(f"{column} holds {value}, a float: ids are text, such as '17'")


def _plan(grouped: list, references: list[str], full_names: bool, computed: bool) -> Plan:
    order = {reference: number for number, reference in enumerate(references)}
    views, columns = [], []
    for table, asked in grouped:
        view = table.projection.name_to_use()
        kinds = {field.name: field.dtype.to_value_type() for field in table.features}
        features = sorted(asked, key=lambda name: order.get(f"{view}:{name}", -1))
        for place, name in enumerate(features):
            column = f"{view}__{name}" if full_names else name
            found = PlannedColumn(column, len(views), place, kinds.get(name, ValueType.UNKNOWN))
            columns.append((order.get(f"{view}:{name}", -1), found))
        views.append((table, features))
    keys = {frozenset(table.join_keys) for table, _ in views}
    renamed = any(table.projection.join_key_map for table, _ in views)
    uniform = len(keys) == 1 and not renamed and not computed
    columns = [column for _, column in sorted(columns, key=lambda pair: pair[0])]
    return Plan(views, columns, set(*keys) if uniform else None)


def serialized_keys(config: RepoConfig, join_key_values: dict[str, list[Value]]) -> list[bytes]:
    """Serialized entity key of every row of a request."""
    names, version = list(join_key_values), config.entity_key_serialization_version
    return [
        serialize_entity_key(EntityKey(join_keys=names, entity_values=row), version)
        for row in zip(*join_key_values.values(), strict=True)
    ]


def measured() -> bool:
    """Whether the metrics of Feast's feature server are on."""
    return metrics._config.online_features
