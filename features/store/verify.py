"""Holds the rows of the online store to the ledger of what was written, bucket by bucket.

A row may be lost or changed behind the ledger's back: a file that was restored, a deleted key, a
writer that nobody knows. In come a view, its state (changes.py) and a share of its users, or items;
out come those whose row is not the one that was written, read back through Feast as everybody
reads it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from features.store.changes import State, digest
from features.store.repository import explained, open_store, store_kinds
from features.store.view_specs import View

if TYPE_CHECKING:
    from feast import FeatureStore

BATCH = 2_000  # users or items of one read
BUCKET = 10_000  # rows that a look takes at least: a smaller view is looked at whole, every time
MOST_BUCKETS = 24  # so many looks see every row


@dataclass(frozen=True)
class Verified:
    """What was looked at, and what of it is not as it was written."""

    looked: int
    rows: int  # of the view, in all
    ids: list[str]  # of users, or items, whose rows differ or are gone


def verify(lake: Lake, view: View, state: State, look: int | None) -> Verified:
    """Compares rows of a view with their digests.

    Args:
      lake: with an applied registry.
      view: whose rows.
      state: what was written.
      look: number of this look: each takes the next bucket of rows; None: all of them.
    """
    rows = state.rows.num_rows
    buckets = min(MOST_BUCKETS, max(1, rows // BUCKET)) if look is not None else 1
    ids, digests = _bucket(view, state, buckets, (look or 0) % buckets)
    store, different = open_store(lake), []
    for start in range(0, len(ids), BATCH):
        part = ids[start : start + BATCH]
        found = _served_digests(lake, store, view, part)
        expected = digests[start : start + BATCH]
        different += [i for i, a, b in zip(part, found, expected, strict=True) if a != b]
    return Verified(len(ids), rows, different)


def without(view: View, state: State, ids: list[str]) -> State:
    """A state that knows nothing of some rows, so that all objects are read for them again."""
    with connect() as connection:
        connection.register("known", state.rows)
        connection.register("lost", pa.table({view.key: pa.array(ids, pa.string())}))
        left = connection.sql(f"SELECT * FROM known ANTI JOIN lost USING ({view.key})")
        return State(state.token, {}, left.to_arrow_table().cast(state.rows.schema))


def _bucket(view: View, state: State, buckets: int, number: int) -> tuple[list[str], list[int]]:
    with connect() as connection:
        connection.register("known", state.rows)
        found = connection.sql(
            f"SELECT {view.key}, digest FROM known WHERE md5_number_lower({view.key}) % $n = $k "
            f"ORDER BY {view.key}",
            params={"n": buckets, "k": number},
        ).to_arrow_table()
    return found[view.key].to_pylist(), found["digest"].to_pylist()


def _served_digests(lake: Lake, store: "FeatureStore", view: View, ids: list[str]) -> list[int]:
    """Digests of what the online store gives of some users, or items, in their order."""
    references = [f"{view.name}:{column.name}" for column in view.columns]
    with explained(lake, store_kinds(store)[0]):
        served = store.get_online_features(references, [{view.key: each} for each in ids]).to_dict()
    columns = {c.name: pa.array(served[c.name], c.type) for c in view.columns}
    with connect() as connection:
        connection.register("served", pa.table(columns))
        found = connection.sql(f"SELECT {digest(view)} AS digest FROM served").to_arrow_table()
    return found["digest"].to_pylist()
