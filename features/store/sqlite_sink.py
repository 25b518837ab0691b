"""Writes encoded feature rows to Feast's SQLite online store.

The rows are those that `SqliteOnlineStore.online_write_batch` would write, byte for byte: one row a
user and feature in the table `<project>_<view>`. They go in by one statement a user, which binds
the key and the clocks once, and in the order of the primary key: that halves the time once the
encoding costs nothing.
"""

import sqlite3
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from features.store.encode import Encoded
from features.store.view_specs import Column, View

if TYPE_CHECKING:
    from feast import FeatureStore

COLUMNS = ("entity_key", "feature_name", "value", "value_text", "event_ts", "created_ts")
PAGES = -262_144  # KiB of cache: a transaction must not spill, for a spill locks readers out


class SqliteSink:
    """One open connection to the store's database file."""

    def __init__(self, store: "FeatureStore") -> None:
        from feast.infra.online_stores.sqlite import SqliteOnlineStore

        self._project = store.project
        self._connection = sqlite3.connect(SqliteOnlineStore._get_db_path(store.config))
        self._connection.execute(f"PRAGMA cache_size = {PAGES}")
        self._connection.execute("CREATE TABLE IF NOT EXISTS footpath_token (token TEXT)")

    def token(self) -> str | None:
        """Returns the mark that `set_token` left, or None in a new store."""
        row = self._connection.execute("SELECT token FROM footpath_token").fetchone()
        return row[0] if row else None

    def set_token(self, token: str) -> None:
        """Marks the store, so that a lost and remade one is told from it."""
        with self._connection:
            self._connection.execute("DELETE FROM footpath_token")
            self._connection.execute("INSERT INTO footpath_token VALUES (?)", (token,))

    def write(self, encoded: Encoded, view: View) -> None:
        """Upserts one batch in one transaction: a reader sees all of a user's row or none."""
        batch = encoded.batch
        cells = [encoded.keys.to_pylist(), _seconds(batch["event_timestamp"])]
        cells.append(_seconds(batch["created"]))
        for column in _in_key_order(view):
            cells.append(encoded.values[column.name].to_pylist())
            cells.append(_texts(batch[column.name], column.kind))
        with self._connection:
            self._connection.executemany(
                _upsert(f"{self._project}_{view.name}", view), zip(*cells, strict=True)
            )

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


def _upsert(table: str, view: View) -> str:
    """Returns a statement for one user: ?1 is the key, ?2 and ?3 the clocks, then the cells."""
    rows = ", ".join(
        f"(?1, '{column.name}', ?{4 + 2 * n}, ?{5 + 2 * n}, ?2, ?3)"
        for n, column in enumerate(_in_key_order(view))
    )
    update = ", ".join(f"{column} = excluded.{column}" for column in COLUMNS[2:])
    return (
        f'INSERT INTO "{table}" ({", ".join(COLUMNS)}) VALUES {rows} '
        f"ON CONFLICT(entity_key, feature_name) DO UPDATE SET {update}"
    )


def _in_key_order(view: View) -> list[Column]:
    return sorted(view.columns, key=lambda column: column.name.encode())


def _texts(values: pa.Array, kind: str) -> list[str | None]:
    """Returns Feast's `value_text`: a text, Python's own of a number, nothing for a vector."""
    if kind in ("int64", "string"):
        return values.cast(pa.string()).to_pylist()
    if kind != "float64":
        return [None] * len(values)
    texts = np.array(list(map(repr, values.fill_null(0.0).to_pylist())), dtype=object)
    texts[values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)] = None
    return texts.tolist()


def _seconds(instants: pa.TimestampArray) -> list[int]:
    """Returns what Feast stores for each instant, through its own adapter: days repeat."""
    from feast.infra.online_stores.sqlite import adapt_datetime_epoch
    from feast.utils import to_naive_utc

    coded = instants.dictionary_encode()
    distinct = [adapt_datetime_epoch(to_naive_utc(t)) for t in coded.dictionary.to_pylist()]
    return pa.array(distinct, pa.int64()).take(coded.indices).to_pylist()
