"""Lookup tables: catalog and user files -> `items` and `users`, one row a key, attributes as text.

In: the files that the YAML names, whole, each time. Out: `items.parquet` and `users.parquet`, with
a hash of the files that they were made from. These tables have no days: what the source holds now
replaces what it held before. Of two rows with one
key the later one counts, in order of path and line. `explode` makes several rows of one, and rows
for which `where` is not true do not count.
"""

from dataclasses import dataclass

import duckdb
import pyarrow as pa

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_json
from contracts.base.sql import literals, name
from contracts.config.dataset import Dataset
from contracts.config.source import Lookup
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from contracts.lake.reading import read_metadata
from contracts.lake.schemas import BUILT_FROM, ITEMS, USERS
from features.expressions import check_expressions, text_of
from features.ingestion.listing import find_files, root_of
from features.ingestion.mapping import exploded, exploded_columns
from features.ingestion.reader import ROWS, RowReader
from features.ingestion.streams import SourceFile

# More rows than this that cannot be read, or have no key, are a broken file and not bad luck.
MAX_BROKEN_SHARE = 0.05


@dataclass(frozen=True)
class _Target:
    """One table: where its files lie and which expression gives which column."""

    section: str  # of the YAML
    files: Lookup
    key: str
    columns: dict[str, str | None]  # column -> SQL, the key first
    attributes: dict[str, str]


def build_items(dataset: Dataset, lake: Lake) -> int:
    """Publishes the catalog and returns its rows; 0 where the data set has none.

    Raises:
      FootpathError: files are missing or broken, or an expression is wrong.
    """
    return _publish(dataset, lake, target, ITEMS) if (target := _items(dataset)) else 0


def build_users(dataset: Dataset, lake: Lake) -> int:
    """Publishes the users table and returns its rows; 0 where the data set has none.

    Raises:
      FootpathError: files are missing or broken, or an expression is wrong.
    """
    return _publish(dataset, lake, target, USERS) if (target := _users(dataset)) else 0


def changed_lookups(dataset: Dataset, lake: Lake) -> dict[str, str]:
    """Tables whose files, or what the YAML says of them, are others now: table -> their hash.

    Raises:
      FootpathError: the files of one are not there.
    """
    changed = {}
    for target in (_items(dataset), _users(dataset)):
        if target is None:
            continue
        now, path = _built_from(target, _files(dataset, target)), lake.single(target.section)
        known = (read_metadata(path).metadata or {}) if path.exists() else {}
        if known.get(BUILT_FROM) != now.encode():
            changed[target.section] = now
    return changed


def check_lookup(connection: duckdb.DuckDBPyConnection, dataset: Dataset, section: str) -> None:
    """Binds the expressions of `items` or `users`, if there are any, before a file is read.

    Raises:
      FieldError: one is wrong.
    """
    if target := _target(dataset, section):
        _check(connection, dataset, target)


def read_lookup(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, section: str, folder: str, most: int
) -> bool:
    """Makes the table `read` of all rows of the files of `items` or `users` below a folder.

    Returns:
      Whether it did: not where the files have more bytes than `most`.

    Raises:
      FootpathError: files are missing or broken.
    """
    target = _target(dataset, section)
    assert target, f"there is no section {section}"
    files = _files(dataset, target, folder)
    if fits := sum(file.size for file in files) <= most:
        _read(connection, target, files)
    return fits


def _target(dataset: Dataset, section: str) -> _Target | None:
    return _items(dataset) if section == "items" else _users(dataset)


def _items(dataset: Dataset) -> _Target | None:
    if (items := dataset.items) is None:
        return None
    columns = {"item_id": items.item_id, "title": items.title, "category": items.category}
    return _Target("items", items, "item_id", columns, items.attributes)


def _users(dataset: Dataset) -> _Target | None:
    if (users := dataset.users) is None:
        return None
    return _Target("users", users, "user_id", {"user_id": users.user_id}, users.attributes)


def _publish(dataset: Dataset, lake: Lake, target: _Target, schema: pa.Schema) -> int:
    with connect() as connection:
        _check(connection, dataset, target)
        files = _files(dataset, target)
        _read(connection, target, files)
        rows = connection.sql(
            f"SELECT * EXCLUDE (__file, __line) FROM read WHERE {target.key} IS NOT NULL "
            f"QUALIFY row_number() OVER (PARTITION BY {target.key} ORDER BY __file DESC, "
            f"__line DESC, __place DESC) = 1 ORDER BY {target.key}"
        ).to_arrow_table()
    table = rows.select(schema.names).cast(schema)
    table = table.replace_schema_metadata({BUILT_FROM: _built_from(target, files)})
    publish_table(lake, table, lake.single(target.section))
    return rows.num_rows


def _files(dataset: Dataset, target: _Target, folder: str = "") -> list[SourceFile]:
    url = target.files.url
    folder = folder or root_of(dataset, url)
    files = find_files(folder, url)
    if not files:
        raise FootpathError(
            f"data set '{dataset.name}' has no file of {target.section}: "
            f"looked for {url} under {folder or 'its absolute address'}"
        )
    return files


def _built_from(target: _Target, files: list[SourceFile]) -> str:
    """Hash of what a table is made from."""
    lying = [[file.path, file.size, file.stamp] for file in files]
    return hash_json([target.files.model_dump(mode="json"), lying])


def _check(connection: duckdb.DuckDBPyConnection, dataset: Dataset, target: _Target) -> None:
    """Binds the expressions before any file is read."""
    where = f"data set '{dataset.name}': {target.section}"
    expressions = {field: sql for field, sql in target.columns.items() if sql}
    expressions |= {f"attributes.{key}": sql for key, sql in target.attributes.items()}
    if target.files.where:
        expressions["where"] = target.files.where
    columns = exploded_columns(connection, where, target.files.columns, target.files.explode)
    check_expressions(connection, where, columns, expressions)


def _read(connection: duckdb.DuckDBPyConnection, target: _Target, files: list[SourceFile]) -> None:
    """Makes the table `read` of all rows of all files, mapped."""
    reader = RowReader(connection, target.files, files)
    select = _select(target)
    created = False
    broken: list[tuple] = []
    total = 0
    for _ in reader.chunks():
        how = "INSERT INTO read" if created else "CREATE TEMP TABLE read AS"
        connection.execute(f"{how} {select}")
        created = True
        total += connection.sql(f"SELECT count(*) FROM ({select})").fetchall()[0][0]
        broken += connection.sql(
            f"SELECT __file, __line, coalesce(__problem, '{target.key} is null') FROM ({select}) "
            f"WHERE {target.key} IS NULL"
        ).fetchall()
    if reader.faults:
        raise FootpathError("; ".join(reader.faults.values()))
    if not created:
        raise FootpathError(f"{files[0].path} has no rows: {target.section} needs at least one")
    if len(broken) > MAX_BROKEN_SHARE * total:
        file, line, problem = broken[0]
        raise FootpathError(
            f"{files[file].path}: {len(broken):,} of {total:,} rows cannot be used, "
            f"the first in line {line}: {problem}"
        )


def _select(target: _Target) -> str:
    """The SELECT over `rows_read`; a row that cannot be read has no key."""
    columns = ", ".join(
        f"CASE WHEN __problem IS NULL THEN TRY({text_of(sql)}) END AS {name(column)}"
        if sql
        else f"NULL::VARCHAR AS {name(column)}"
        for column, sql in target.columns.items()
    )
    keys = literals(target.attributes)
    values = ", ".join(f"TRY(({sql})::VARCHAR)" for sql in target.attributes.values())
    pairs = f"map([{keys}]::VARCHAR[], [{values}]::VARCHAR[])"
    # A null attribute is one that the row does not have.
    attributes = (
        f"map_from_entries(list_filter(map_entries({pairs}), lambda e: e.value IS NOT NULL))"
    )
    files = target.files
    # A row that cannot be read is broken, whatever `where` would say of it.
    counts = f" WHERE __problem IS NOT NULL OR ({files.where})" if files.where else ""
    return (
        f"SELECT __file, __line, __place, {columns}, {attributes} AS attributes, "
        f"__problem FROM {exploded(ROWS, target.section, files.explode, files.columns)}{counts}"
    )
