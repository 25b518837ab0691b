"""Feast's SQLite online store, with vectorized writes of Arrow batches and ordered reads.

The rows are those that `SqliteOnlineStore.online_write_batch` would write, byte for byte: one row a
user and feature in the table `<project>_<view>`. They go in by one statement a user, which binds
the key and the clocks once, and in the order of the primary key: that halves the time once the
encoding costs nothing. What is new of a user in several views goes in by one transaction, so that
no read meets a part of it.
"""

import datetime as dt
import functools
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from feast import FeatureView, Field, RepoConfig, ValueType
from feast.infra.online_stores import sqlite
from feast.infra.online_stores.helpers import extract_text_and_num
from feast.protos.feast.types.Value_pb2 import Value
from feast.utils import to_naive_utc

from footpath_feast.feast_private import (
    Batches,
    Progress,
    clocks,
    serialized_keys,
    versioned_name,
    write_rows,
)
from footpath_feast.ordered_reads import OrderedReads, ViewCells
from footpath_feast.value_bytes import encode_values, entity_keys

COLUMNS = ("entity_key", "feature_name", "value", "value_text", "event_ts", "created_ts")
PAGES = -262_144  # KiB of cache: a transaction must not spill, for a spill locks readers out


class SqliteOnlineStoreConfig(sqlite.SqliteOnlineStoreConfig):
    """Options of Feast's SQLite store, under the type of this one."""

    type: Literal["footpath_feast.sqlite.SqliteOnlineStore"] = (  # pyright: ignore[reportIncompatibleVariableOverride]
        "footpath_feast.sqlite.SqliteOnlineStore"
    )


class SqliteOnlineStore(OrderedReads, sqlite.SqliteOnlineStore):
    """Feast's SQLite online store that takes Arrow batches and reads in order."""

    def online_write_arrow(
        self,
        config: RepoConfig,
        batches: Batches,
        progress: Progress | None = None,
    ) -> None:
        """Upserts batches in one transaction: a reader sees all that is new of a user, or nothing.

        Args:
          config: the feature store's.
          batches: views, and a batch of each: its entity and timestamp columns, and one column a
            feature, named after it.
          progress: gets the number of rows once they are written.
        """
        options: Any = config.online_store
        if options.vector_enabled or options.enable_openai_compatible_store:
            for table, batch in batches:  # their columns are Feast's own affair
                write_rows(self, config, table, batch, progress)
            return
        upserts = [(_upsert(config, table), _rows(table, batch)) for table, batch in batches]
        connection = self._get_conn(config)
        connection.execute(f"PRAGMA cache_size = {PAGES}")
        with connection:
            for statement, rows in upserts:
                connection.executemany(statement, rows)
        if progress:
            progress(sum(batch.num_rows for _, batch in batches))

    def online_delete(
        self, config: RepoConfig, tables: Sequence[FeatureView], keys: dict[str, list[Value]]
    ) -> int:
        """Deletes all rows of some entities, and what the file still holds of deleted rows.

        Args:
          config: the feature store's.
          tables: views.
          keys: the values of the join keys, a value an entity.

        Returns:
          How many entities had a row.
        """
        connection, deleted = self._get_conn(config), set()
        connection.execute("PRAGMA secure_delete = ON")
        with connection:
            for table in tables:
                name = f"{config.project}_{versioned_name(config, table)}"
                for key in serialized_keys(config, keys):
                    gone = connection.execute(
                        f'DELETE FROM "{name}" WHERE entity_key = ?', (key,)
                    ).rowcount
                    deleted |= {key} if gone else set()
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return len(deleted)

    def _read_cells(
        self, config: RepoConfig, views: list[tuple[FeatureView, list[str]]], keys: list[bytes]
    ) -> list[ViewCells]:
        """Reads all views by one statement, so that no write comes between two of them."""
        marks = ",".join(f"?{number}" for number in range(1, len(keys) + 1))
        query = " UNION ALL ".join(
            f"SELECT {number}, entity_key, feature_name, value, CAST(event_ts AS INTEGER) "
            f'FROM "{config.project}_{versioned_name(config, table)}" '
            f"WHERE entity_key IN ({marks})"
            for number, (table, _) in enumerate(views)
        )
        rows = {key: row for row, key in enumerate(keys)}
        found, places = [], []
        for _, features in views:
            columns: list = [[None] * len(keys) for _ in features]
            found.append(ViewCells([None] * len(keys), columns))
            places.append(dict(zip(features, columns, strict=True)))
        for view, key, feature, value, event in self._asked(config, query, keys):
            row = rows[key]
            if feature in places[view]:
                places[view][feature][row] = value
            found[view].instants[row] = _instant(event)
        return found

    def _asked(self, config: RepoConfig, query: str, keys: list[bytes]) -> list[tuple]:
        """Rows of a query; an error names the file."""
        try:
            return self._get_conn(config).execute(query, keys).fetchall()
        except sqlite3.OperationalError as error:
            path = self._get_db_path(config)
            told = f"{path}: {error}: if a writer holds the file, read again"
            raise sqlite3.OperationalError(told) from error


@functools.lru_cache(1024)
def _instant(stored: int) -> dt.datetime:
    """What Feast takes a stored event timestamp for, through its own converter."""
    return sqlite.convert_timestamp(b"%d" % stored).replace(tzinfo=dt.UTC)


def _sorted_features(table: FeatureView) -> list[Field]:
    """The features of a view in the order of the primary key."""
    return sorted(table.features, key=lambda feature: feature.name.encode())


def _upsert(config: RepoConfig, table: FeatureView) -> str:
    """Makes the statement for one user: ?1 is the key, ?2 and ?3 the clocks, then the cells."""
    rows = ", ".join(
        f"(?1, '{feature.name}', ?{4 + 2 * n}, ?{5 + 2 * n}, ?2, ?3)"
        for n, feature in enumerate(_sorted_features(table))
    )
    update = ", ".join(f"{column} = excluded.{column}" for column in COLUMNS[2:])
    name = f"{config.project}_{versioned_name(config, table)}"
    return (
        f'INSERT INTO "{name}" ({", ".join(COLUMNS)}) VALUES {rows} '
        f"ON CONFLICT(entity_key, feature_name) DO UPDATE SET {update}"
    )


def _rows(table: FeatureView, batch: pa.RecordBatch) -> Iterator[tuple]:
    """What the statement binds, a tuple a user."""
    event, created = clocks(table, batch)
    cells: list[list] = [entity_keys(batch, table.entity_columns).to_pylist(), _seconds(event)]
    cells.append(_seconds(created) if created is not None else [None] * batch.num_rows)
    for feature in _sorted_features(table):
        kind, values = feature.dtype.to_value_type(), batch.column(feature.name)
        encoded = encode_values(values, kind).to_pylist()
        cells += [encoded, _texts(values, kind, encoded)]
    return zip(*cells, strict=True)


def _texts(values: pa.Array, kind: ValueType, encoded: list[bytes]) -> list[str | None]:
    """Feast's `value_text`: a text, Python's own of a number, nothing for a vector."""
    if values.type in (pa.int64(), pa.string()) and kind in (ValueType.INT64, ValueType.STRING):
        return values.cast(pa.string()).to_pylist()
    if kind == ValueType.FLOAT_LIST:
        return [None] * len(values)
    if (kind, values.type) != (ValueType.DOUBLE, pa.float64()):
        return [extract_text_and_num(Value.FromString(value), False)[0] for value in encoded]
    texts = np.array(list(map(repr, values.fill_null(0.0).to_pylist())), dtype=object)
    texts[values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)] = None
    return texts.tolist()


def _seconds(instants: pa.TimestampArray) -> list[int]:
    """What Feast stores for each instant, through its own adapter: days repeat."""
    coded = instants.dictionary_encode()
    distinct = [sqlite.adapt_datetime_epoch(to_naive_utc(t)) for t in coded.dictionary.to_pylist()]
    return pa.array(distinct, pa.int64()).take(coded.indices).to_pylist()
