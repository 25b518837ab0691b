"""Online reads in the order of the request: one round trip for all views, decoded by column.

Stock Feast collects the features of a view in a set, so that each process has another order of
columns; it makes a protobuf message of every cell, and Python values of those. Here the cells stay
bytes until a column of them is decoded, and the protobuf response is made only for who asks for it,
as Feast's HTTP server does. Names, values, statuses and timestamps are Feast's, which
tests/footpath_feast/test_reads.py holds against Feast itself.

What is left to Feast, and only put into order: on-demand views, pre-computed vectors, metadata of
versions, and views that are keyed otherwise than the others of a request.
"""

import asyncio
import datetime as dt
import functools
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from feast import FeatureView, RepoConfig
from feast.infra.online_stores.online_store import OnlineStore
from feast.metrics import track_feature_statuses, track_online_store_read
from feast.online_response import TIMESTAMP_POSTFIX, OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from footpath_feast.feast_private import Plan, measured, prepared, serialized_keys
from footpath_feast.value_bytes import decode_columns

Cells = Sequence[bytes | None]  # one a user; None where the store has no such cell
Instants = list[dt.datetime | None]  # when the row of a user was, one a user


@dataclass(frozen=True)
class ViewCells:
    """What a store holds of the asked features of one view, and of some users."""

    instants: Instants
    cells: list[Cells]  # one column a feature

    def taken(self, rows: list[int]) -> "ViewCells":
        """The rows of these numbers."""
        cells: list[Cells] = [[column[row] for row in rows] for column in self.cells]
        return ViewCells([self.instants[row] for row in rows], cells)


class OrderedResponse(OnlineResponse):
    """Columns in the order of the request, decoded when they are asked for."""

    def __init__(
        self, entities: GetOnlineFeaturesResponse, plan: Plan, found: list[ViewCells], absent: int
    ) -> None:
        """Keeps what was read.

        Args:
          entities: the columns of the entities.
          plan: what was asked.
          found: what was read of every view, with a row each of the request.
          absent: status of a cell that is not there.
        """
        self._entities = OnlineResponse(entities)
        self._plan = plan
        self._instants = [found[column.view].instants for column in plan.columns]
        self._cells = [found[column.view].cells[column.place] for column in plan.columns]
        self._absent = absent

    @functools.cached_property
    def proto(self) -> GetOnlineFeaturesResponse:
        """The whole response as Feast's protobuf message."""
        response = GetOnlineFeaturesResponse()
        response.CopyFrom(self._entities.proto)
        response.metadata.feature_names.val.extend(column.name for column in self._plan.columns)
        for cells, instants in zip(self._cells, self._instants, strict=True):
            response.results.append(self._vector(cells, instants))
        return response

    def to_dict(self, include_event_timestamps: bool = False) -> dict[str, Any]:
        """Name -> values, one a user; with event timestamps in seconds where they are asked for."""
        response = self._entities.to_dict(include_event_timestamps)
        decoded = decode_columns(self._cells, [column.kind for column in self._plan.columns])
        for column, values, instants in zip(
            self._plan.columns, decoded, self._instants, strict=True
        ):
            response[column.name] = values
            if include_event_timestamps:
                seconds = [int(t.timestamp()) if t else 0 for t in instants]
                response[column.name + TIMESTAMP_POSTFIX] = seconds
        return response

    def to_tensor(self, kind: str = "torch", default_value: Any = float("nan")) -> dict[str, Any]:
        """Name -> tensor of a numeric column, or list of any other."""
        tensors = super().to_tensor(kind, default_value)
        return {name: tensors[name] for name in self.proto.metadata.feature_names.val}

    def _vector(self, cells: Cells, instants: Instants) -> GetOnlineFeaturesResponse.FeatureVector:
        stamps = []
        for instant in instants:
            stamps.append(Timestamp())
            if instant:
                stamps[-1].FromDatetime(instant)
        return GetOnlineFeaturesResponse.FeatureVector(
            values=[Value.FromString(cell or b"") for cell in cells],
            statuses=[self._absent if cell is None else FieldStatus.PRESENT for cell in cells],
            event_timestamps=stamps,
        )


class OrderedReads(OnlineStore):
    """An online store whose reads keep the order of the request."""

    _absent: int = FieldStatus.NOT_FOUND

    @abstractmethod
    def _read_cells(
        self, config: RepoConfig, views: list[tuple[FeatureView, list[str]]], keys: list[bytes]
    ) -> list[ViewCells]:
        """Reads the features of all views for distinct entity keys, in one round trip."""

    def get_online_features(
        self,
        config: RepoConfig,
        features: Any,
        entity_rows: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """Reads features as Feast does, with columns in the order of the service or list."""
        plan, join_key_values, entities = prepared(
            registry, project, features, entity_rows, full_feature_names
        )
        uniform = plan.join_keys is not None and plan.join_keys == join_key_values.keys()
        if include_feature_view_version_metadata or not uniform:
            response = super().get_online_features(
                config,
                features,
                entity_rows,
                registry,
                project,
                full_feature_names,
                include_feature_view_version_metadata,
            )
            return _in_order(response, [column.name for column in plan.columns])
        self._check_versioned_read_support(plan.views)
        keys = serialized_keys(config, join_key_values)
        start = time.monotonic()
        distinct = {key: row for row, key in enumerate(dict.fromkeys(keys))}
        found = self._read_cells(config, plan.views, list(distinct))
        if measured():
            track_online_store_read(time.monotonic() - start)
            _track_statuses(plan, found, self._absent)
        if len(distinct) < len(keys):
            rows = [distinct[key] for key in keys]
            found = [view.taken(rows) for view in found]
        return OrderedResponse(entities, plan, found, self._absent)

    async def get_online_features_async(self, *args: Any, **kwargs: Any) -> OnlineResponse:
        """The same read in a thread: sockets and SQLite leave the interpreter free meanwhile."""
        return await asyncio.to_thread(self.get_online_features, *args, **kwargs)


def _in_order(response: OnlineResponse, names: list[str]) -> OnlineResponse:
    """Sorts the columns of Feast's own response: entities, then the features as requested."""
    before = response.proto
    place = {name: number for number, name in enumerate(names)}
    found = list(before.metadata.feature_names.val)
    order = sorted(range(len(found)), key=lambda column: place.get(found[column], -1))
    after = GetOnlineFeaturesResponse(results=[before.results[column] for column in order])
    after.metadata.CopyFrom(before.metadata)
    after.metadata.feature_names.val[:] = [found[column] for column in order]
    response.proto = after
    return response


def _track_statuses(plan: Plan, found: list[ViewCells], absent: int) -> None:
    """Counts what was there and what was not, for the metrics of Feast's server."""
    for (table, features), view in zip(plan.views, found, strict=True):
        cells = len(features) * len(view.instants)
        lost = sum(cell is None for column in view.cells for cell in column)
        lost = 0 if absent == FieldStatus.PRESENT else lost
        track_feature_statuses(table.name, cells - lost, lost)
