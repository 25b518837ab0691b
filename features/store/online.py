"""Brings the online store up to date: only what changed, through a vectorised writer.

In come the published daily objects of every current view; out go the rows of the online store,
readable by stock Feast. A crash leaves whole rows and the old state, and the next run writes them
again.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from features.store.changes import Changes, publish_state, read_state
from features.store.encode import encode
from features.store.feast_objects import JOIN_KEY, feature_view, user_entity
from features.store.redis_sink import RedisSink
from features.store.repository import locked, open_store, store_kinds
from features.store.served import served_views
from features.store.sqlite_sink import SqliteSink
from features.store.view_specs import View

if TYPE_CHECKING:
    from feast import FeatureStore

BATCH = 10_000  # users

Sink = SqliteSink | RedisSink


@dataclass(frozen=True)
class MaterializeReport:
    """How many users' rows were written."""

    online_store: str  # sqlite or redis
    rows: int  # of all views
    views: dict[str, int]  # view -> its rows
    frozen: list[str]  # one sentence for each old view that can no longer be kept up to date


def materialize(
    dataset: Dataset, lake: Lake, progress: Callable[[int, int], None] | None = None
) -> MaterializeReport:
    """Writes every row that the online store lacks or has an older version of.

    Args:
      dataset: whose features.
      lake: its lake, with an applied registry.
      progress: told (rows written, rows to write) of the view at hand after every batch.

    Raises:
      FootpathError: no registry was applied, or a day lacks a feature of the present list.
    """
    with locked(lake):
        store = open_store(lake)
        served = served_views(dataset, lake)
        _make_tables(store, lake, served.views)
        sink = open_sink(store)
        try:
            token = sink.token()
            if token is None:
                token = uuid.uuid4().hex
                sink.set_token(token)
            rows = {view.name: _write(lake, view, sink, token, progress) for view in served.views}
        finally:
            sink.close()
        return MaterializeReport(store_kinds(store)[0], sum(rows.values()), rows, served.frozen)


def open_sink(store: "FeatureStore") -> Sink:
    """Opens the writer that goes with the repository's online store."""
    return RedisSink(store) if store_kinds(store)[0] == "redis" else SqliteSink(store)


def _write(
    lake: Lake,
    view: View,
    sink: Sink,
    token: str,
    progress: Callable[[int, int], None] | None,
) -> int:
    with connect() as connection:
        changes = Changes(connection, lake, view, read_state(lake, view, token))
        written = 0
        for batch in changes.batches(BATCH):
            sink.write(encode(batch, view, JOIN_KEY), view)
            written += batch.num_rows
            if progress:
                progress(written, changes.rows)
        publish_state(lake, view, changes.state())
        return changes.rows


def _make_tables(store: "FeatureStore", lake: Lake, views: list[View]) -> None:
    """Makes the tables that an online store needs, in case it was lost since the last apply."""
    entity = user_entity()
    provider = store._get_provider()
    provider.update_infra(
        project=store.project,
        tables_to_delete=[],
        tables_to_keep=[feature_view(lake, view, entity) for view in views],
        entities_to_delete=[],
        entities_to_keep=[entity],
        partial=True,
    )
