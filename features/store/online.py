"""Brings the online store up to date: only what changed.

In come the published daily objects of every current view; out go the rows of the online store,
readable by stock Feast. A crash leaves whole rows and the old state, and the next run writes them
again.
"""

from collections.abc import Callable
from dataclasses import dataclass

from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from features.store.changes import Changes, publish_state, read_state
from features.store.online_writer import OnlineWriter
from features.store.repository import locked
from features.store.served import served_views
from features.store.view_specs import View

BATCH = 10_000  # users


@dataclass(frozen=True)
class MaterializeReport:
    """How many users' rows were written."""

    online_store: str  # its type, as in feature_store.yaml
    rows: int  # of all views
    views: dict[str, int]  # view -> its rows


def materialize(
    dataset: Dataset, lake: Lake, progress: Callable[[int, int], None] | None = None
) -> MaterializeReport:
    """Writes every row that the online store lacks or has an older version of.

    Args:
      dataset: whose features.
      lake: its lake, with an applied registry.
      progress: gets (rows written, rows to write) of the view at hand after every batch.

    Raises:
      FootpathError: no registry was applied, or the store refused a write.
    """
    with locked(lake):
        views = served_views(dataset, lake)
        writer = OnlineWriter(lake, views)
        token = writer.token()
        rows = {view.name: _write(lake, view, writer, token, progress) for view in views}
        return MaterializeReport(writer.kind, sum(rows.values()), rows)


def _write(
    lake: Lake,
    view: View,
    writer: OnlineWriter,
    token: str,
    progress: Callable[[int, int], None] | None,
) -> int:
    with connect() as connection:
        changes = Changes(connection, lake, view, read_state(lake, view, token))
        written = 0
        for batch in changes.batches(BATCH):
            writer.write(view, batch)
            written += batch.num_rows
            if progress:
                progress(written, changes.rows)
        publish_state(lake, view, changes.state())
        return changes.rows
