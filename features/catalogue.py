"""The files of items and users -> `items.parquet` and `users.parquet`.

In:  whole files below the source folder, and the YAML's expressions over their columns.
Out: one row a key, sorted by it. Of several rows with one key the last counts: in the last file by
name, on the last line. Rows that cannot be read or have no key are dropped and counted, and stop
the build when they are more than a twentieth.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from contracts.dataset import Dataset, FileTable, source_folder
from contracts.engine import connect
from contracts.errors import FootpathError
from contracts.lake import Lake, publish_table
from contracts.tables import ITEMS, USERS
from features.files import find_files, is_absolute
from features.rows import ROWS, RowReader
from features.sql import check_expressions, map_of, name, text

log = logging.getLogger(__name__)

MOST_DROPPED = 0.05


@dataclass(frozen=True)
class _Catalogue:
    """One of the two tables."""

    name: str
    files: FileTable
    key: str  # field
    fields: Mapping[str, str | None]  # field -> SQL
    attributes: Mapping[str, str]
    schema: pa.Schema


def build_items(dataset: Dataset, lake: Lake) -> int:
    """Publishes `items.parquet` and returns its rows; 0, and no file, if the YAML has no items.

    Raises:
      FootpathError: no file is there, or too many of its rows are unusable.
    """
    items = dataset.items
    if items is None:
        return 0
    fields = {"item_id": items.item_id, "title": items.title, "category": items.category}
    table = _Catalogue("items", items, "item_id", fields, items.attributes, ITEMS)
    return _build(dataset, lake, table)


def build_users(dataset: Dataset, lake: Lake) -> int:
    """Publishes `users.parquet` and returns its rows; 0, and no file, if the YAML has no users.

    Raises:
      FootpathError: no file is there, or too many of its rows are unusable.
    """
    users = dataset.users
    if users is None:
        return 0
    fields = {"user_id": users.user_id}
    table = _Catalogue("users", users, "user_id", fields, users.attributes, USERS)
    return _build(dataset, lake, table)


def _build(dataset: Dataset, lake: Lake, table: _Catalogue) -> int:
    folder = "" if is_absolute(table.files.url) else source_folder(dataset.name)
    files = find_files(folder, table.files.url)
    if not files:
        raise FootpathError(
            f"data set '{dataset.name}' has no file of {table.name}: "
            f"looked for {table.files.url} under {folder or 'its absolute address'}"
        )
    with connect() as connection:
        expressions = {field: sql for field, sql in table.fields.items() if sql}
        expressions |= {f"attributes.{key}": sql for key, sql in table.attributes.items()}
        where = f"data set '{dataset.name}': {table.name}"
        reader = RowReader(connection, table.files, files)
        check_expressions(connection, where, table.files.columns, expressions)
        started = False
        for _ in reader.chunks():
            how = (
                "INSERT INTO catalogue" if started else "CREATE OR REPLACE TEMP TABLE catalogue AS"
            )
            connection.execute(f"{how} {_select(table)}")
            started = True
        if reader.faults:
            raise FootpathError("; ".join(reader.faults.values()))
        rows = _last_rows(connection, table) if started else table.schema.empty_table()
    publish_table(lake, rows, lake.single(table.name))
    return len(rows)


def _select(table: _Catalogue) -> str:
    """Returns the SELECT from `rows_read` to rows of the table; null where a row is unusable."""
    fields = ", ".join(
        f"{text(field)}: nullif(({sql or 'NULL'})::VARCHAR, '')"
        for field, sql in table.fields.items()
    )
    row = f"TRY({{{fields}, 'attributes': {map_of(table.attributes)}}})"
    return (
        f"SELECT __file, __line, CASE WHEN __problem IS NULL THEN {row} END AS row, "
        f"coalesce(__problem, 'no {table.key}') AS problem FROM {ROWS}"
    )


def _last_rows(connection: duckdb.DuckDBPyConnection, table: _Catalogue) -> pa.Table:
    """Returns the last row of each key.

    Raises:
      FootpathError: more than a twentieth of the rows have no key or cannot be read.
    """
    key = f"row.{name(table.key)}"
    found = connection.execute(
        f"SELECT count(*), count({key}), count(DISTINCT {key}), "
        f"min_by('line ' || __line || ': ' || problem, (__file, __line)) "
        f"FILTER ({key} IS NULL) FROM catalogue"
    ).fetchall()
    total, usable, distinct, example = found[0]
    if total - usable > MOST_DROPPED * total:
        raise FootpathError(
            f"{table.name} in {table.files.url}: {total - usable:,} of {total:,} rows cannot be "
            f"read or have no {table.key}, such as {example}: mend the file or the YAML"
        )
    if total > distinct:
        log.info(
            f"{table.name}: {total:,} rows, {total - usable:,} without a key or unreadable, "
            f"{usable - distinct:,} replaced by a later row of their key"
        )
    columns = ", ".join(f"row.{name(column)} AS {name(column)}" for column in table.schema.names)
    return (
        connection.sql(
            f"SELECT {columns} FROM catalogue WHERE {key} IS NOT NULL "
            f"QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY __file DESC, __line DESC) = 1 "
            f"ORDER BY {key}"
        )
        .to_arrow_table()
        .cast(table.schema)
    )
