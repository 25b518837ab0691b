"""Coverage: how many sampled events find their item in the catalog, and their user among the users.

In:  the table `sampled` (sample.py) and the files of `items` and `users`. Out: counts, and what of
the tables nothing can be made of.
"""

from dataclasses import dataclass

import duckdb

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from features.ingestion.lookup_tables import read_lookup

KEYS = {"items": "item_id", "users": "user_id"}  # section -> its key

# Files of a table with more bytes, as they lie there, are not read.
MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class Coverage:
    """What one table says of the events of the sample."""

    fault: str = ""  # why it cannot be read
    is_read: bool = True  # false: it is too large to be read here
    keys: int = 0  # items or users that it has
    events: int = 0  # that have an item, or a user
    found: int = 0  # of these, whose item or user the table has
    missing: tuple[str, int] = ("", 0)  # the id with the most events that is not there, and these
    empty: tuple[str, ...] = ()  # fields of the YAML that are null in all rows
    unknown: tuple[str, ...] = ()  # features.categories that no item has


def coverage(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, folder: str
) -> dict[str, Coverage]:
    """Reads `items` and `users` whole, as far as the data set has them, and counts."""
    return {
        section: _of_table(connection, dataset, folder, section)
        for section in KEYS
        if getattr(dataset, section)
    }


def _of_table(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, folder: str, section: str
) -> Coverage:
    try:
        if not read_lookup(connection, dataset, section, folder, MOST_BYTES):
            return Coverage(is_read=False)
    except FootpathError as error:
        return Coverage(fault=str(error))
    key = KEYS[section]
    events = f"FROM sampled WHERE broken IS NULL AND {key} IS NOT NULL"
    known = f"(SELECT DISTINCT {key} FROM read WHERE {key} IS NOT NULL)"
    keys = connection.sql(f"SELECT count(*) FROM {known}").fetchall()[0][0]
    total, found = connection.sql(
        f"SELECT count(*), count(*) FILTER ({key} IN {known}) {events}"
    ).fetchall()[0]
    missing = connection.sql(
        f"SELECT {key}, count(*) {events} AND {key} NOT IN {known} "
        "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1"
    ).fetchall()
    empty = _empty(connection, dataset, section)
    unknown = _unknown_categories(connection, dataset) if section == "items" else ()
    connection.execute("DROP TABLE read")
    most = (missing or [("", 0)])[0]
    return Coverage("", True, keys, total, found, most, empty, unknown)


def _empty(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, section: str
) -> tuple[str, ...]:
    """Fields of a section that are null in every row."""
    table = getattr(dataset, section)
    columns = [column for column in ("title", "category") if getattr(table, column, None)]
    counts = {f"{section}.{column}": f"count({column})" for column in columns}
    for key in table.attributes:
        # A null attribute is one that the row does not have; the pattern of a name has no quote.
        has_key = f"map_contains(attributes, '{key}')"
        counts[f"{section}.attributes.{key}"] = f"count(*) FILTER ({has_key})"
    if not counts:
        return ()
    found = connection.sql(f"SELECT {', '.join(counts.values())} FROM read").fetchall()[0]
    return tuple(field for field, count in zip(counts, found, strict=True) if not count)


def _unknown_categories(connection: duckdb.DuckDBPyConnection, dataset: Dataset) -> tuple[str, ...]:
    rows = connection.sql("SELECT DISTINCT category FROM read WHERE category IS NOT NULL")
    known = {category for (category,) in rows.fetchall()}
    return tuple(each for each in dataset.features.categories if each not in known)
