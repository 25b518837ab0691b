"""Every value that the rows of a sample hold, nested ones too, each with the SQL that reaches it.

In:  the table `sample` (sampling.py). Out: a `Leaf` for each column and for each key inside of
JSON columns; lists of objects, over which rows may explode; and the tables `leaves` and
`elements_N` with the texts of all of them, a column each.

A list of key-value pairs, as in `event_params` of Google Analytics, gives a leaf for each key.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import duckdb

from contracts.base.sql import literal, name
from contracts.config.source import FileTable

# Leaves that are looked at, keys of an object that are names and no data, and depth.
MOST_LEAVES = 400
MOST_KEYS = 100
MOST_PAIRS = 60
DEEPEST = 5

# Objects that only hold others: their names say nothing of what is in them.
CONTAINERS = {"properties", "property", "params", "data", "payload", "body", "context", "event"}
CONTAINERS |= {"attributes", "value", "details", "fields", "record", "detail", "message", "object"}


@dataclass(frozen=True)
class Leaf:
    """A value of a row, or of an element of a list in it."""

    path: tuple[str, ...]  # keys from the column on
    sql: str  # over the declared columns, and `each` in a list
    column: str  # the declared column that it rests on
    alias: str  # its column in the table
    table: str = "leaves"
    start: int = 0  # keys of the path that lead to the list of which it is in an element

    @property
    def label(self) -> str:
        """The path as a person writes it."""
        return ".".join(self.path)

    @property
    def is_plain(self) -> bool:
        """Whether it is a column as it is, and not a key in one."""
        return len(self.path) == 1 and self.table == "leaves"

    @property
    def is_unnamed(self) -> bool:
        """Whether the name was made up: c1, c2 of a file without a header."""
        return self.is_plain and bool(re.fullmatch(r"c\d+", self.path[0]))

    @property
    def words(self) -> list[str]:
        """The words of the name: userId and user_id give user and id, context.ip gives ip."""
        outer = [
            part for part in self.path[self.start : -1] if not set(words_of(part)) <= CONTAINERS
        ]
        return [word for part in [*outer, self.path[-1]] for word in words_of(part)]

    @property
    def joined(self) -> str:
        """The words without anything between them."""
        return "".join(self.words)

    @property
    def key(self) -> str:
        """The last part's words, joined."""
        return "".join(words_of(self.path[-1]))


@dataclass(frozen=True)
class ObjectList:
    """A list of objects in each row."""

    label: str
    sql: str  # gives the list
    column: str
    table: str
    leaves: list[Leaf]


@dataclass
class Leaves:
    """All that is in the rows."""

    rows: list[Leaf] = field(default_factory=list)
    lists: list[ObjectList] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)  # label -> why there is no leaf of it

    @property
    def all(self) -> list[Leaf]:
        """Leaves of rows and of lists."""
        return [*self.rows, *(leaf for each in self.lists for leaf in each.leaves)]


def words_of(text: str) -> list[str]:
    """The words of a name, in small letters."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+", text)
    return [part.lower() for part in parts]


def sql_name(column: str) -> str:
    """A column as SQL, quoted only where it must be."""
    plain = re.fullmatch(r"[A-Za-z_]\w*", column, re.ASCII) and column.lower() not in _keywords()
    return column if plain else name(column)


@cache
def _keywords() -> frozenset[str]:
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'"
        ).fetchall()
    return frozenset(word for (word,) in found)


def find_leaves(connection: duckdb.DuckDBPyConnection, table: FileTable) -> Leaves:
    """Finds all leaves of a sample, and makes their tables."""
    found = Leaves()
    for column, kind in table.columns.items():
        base = sql_name(column)
        if kind != "JSON":
            if embedded := _embedded(connection, table, column):
                kind, base = "JSON", embedded
            else:
                _add(found, (column,), base, column)
        if kind == "JSON":
            shape = connection.sql(
                f"SELECT json_group_structure({base}) FROM sample WHERE {base} IS NOT NULL"
            ).fetchall()[0][0]
            _walk(connection, found, json.loads(shape or "null"), _Place(column, base, (column,)))
    _make_tables(connection, found)
    return found


def _embedded(connection: duckdb.DuckDBPyConnection, table: FileTable, column: str) -> str:
    """SQL of the JSON that a text holds throughout, as the values of a message queue's dump do."""
    if table.format == "csv":
        return ""  # such a column is declared as JSON
    c = name(column)
    is_json = connection.sql(
        f"SELECT count({c}) > 0 AND bool_and({c} IS NULL OR CASE WHEN starts_with({c}, '{{') "
        f"THEN json_valid({c}) ELSE false END) FROM sample"
    ).fetchall()[0][0]
    return f"TRY_CAST({sql_name(column)} AS JSON)" if is_json else ""


@dataclass(frozen=True)
class _Place:
    """Where a walk through a column stands."""

    column: str
    base: str  # SQL of the JSON value that the path starts from
    path: tuple[str, ...]
    inside: str = "$"  # JSON path from the base to here

    def down(self, key: str) -> "_Place":
        plain = re.fullmatch(r"[A-Za-z_]\w*", key, re.ASCII)
        step = f".{key}" if plain else f'."{key}"'
        return _Place(self.column, self.base, (*self.path, key), self.inside + step)

    @property
    def sql(self) -> str:
        return f"{self.base} ->> {literal(self.inside)}"

    @property
    def elements(self) -> str:
        return f"json_extract({self.base}, {literal(self.inside + '[*]')})"


def _walk(
    connection: duckdb.DuckDBPyConnection, found: Leaves, shape: object, place: _Place
) -> None:
    label = ".".join(place.path)
    if isinstance(shape, dict):
        if len(shape) > MOST_KEYS or len(place.path) > DEEPEST:
            found.unread[label] = f"an object of {len(shape):,} keys"
            return
        for key, inner in shape.items():
            if '"' in key or "\\" in key:
                found.unread[f"{label}.{key}"] = "a key with a quote or backslash"
            else:
                _walk(connection, found, inner, place.down(key))
    elif isinstance(shape, list):
        inner = shape[0] if shape else None
        if not isinstance(inner, dict):
            found.unread[label] = "a list"
        elif pair := _pair_of(inner):
            _walk_pairs(connection, found, inner, place, pair)
        else:
            _add_list(found, inner, place)
    elif shape == "NULL":
        found.unread[label] = "empty"
    elif shape is not None:
        _add(found, place.path, place.sql if len(place.path) > 1 else place.base, place.column)


def _add(found: Leaves, path: tuple[str, ...], sql: str, column: str) -> None:
    if len(found.all) >= MOST_LEAVES:
        found.unread[".".join(path)] = "one of many"
        return
    found.rows.append(Leaf(path, sql, column, f"l{len(found.rows)}"))


def _add_list(found: Leaves, inner: dict, place: _Place) -> None:
    """Adds a list of objects, whose leaves are those of its elements that are not lists."""
    table = f"elements_{len(found.lists)}"
    leaves: list[Leaf] = []

    def descend(shape: dict, at: _Place) -> None:
        for key, kind in shape.items():
            below = at.down(key)
            if isinstance(kind, dict) and len(below.path) <= DEEPEST:
                descend(kind, below)
            elif isinstance(kind, str) and kind != "NULL" and len(found.all) < MOST_LEAVES:
                at_list = len(place.path)
                alias = f"l{len(leaves)}"
                leaves.append(Leaf(below.path, below.sql, place.column, alias, table, at_list))

    descend(inner, _Place(place.column, "each", place.path))
    found.lists.append(
        ObjectList(".".join(place.path), place.elements, place.column, table, leaves)
    )


def _pair_of(inner: dict) -> tuple[str, str] | None:
    """The keys that hold name and value, if a list's elements are pairs."""
    for key in ("key", "name", "k"):
        for value in ("value", "values", "v"):
            if inner.get(key) == "VARCHAR" and value in inner and len(inner) <= 3:
                return key, value
    return None


def _walk_pairs(
    connection: duckdb.DuckDBPyConnection,
    found: Leaves,
    inner: dict,
    place: _Place,
    pair: tuple[str, str],
) -> None:
    """Adds a leaf for each key of a list of pairs; values by type are one value."""
    key, value = pair
    kinds = list(_value_paths(inner[value], f"$.{value}"))
    filled = ", ".join(f"count(e ->> {literal(path)})" for path in kinds)
    keys = connection.sql(
        f"SELECT e ->> '$.{key}' AS k, {filled} FROM "
        f"(SELECT unnest({place.elements}) AS e FROM sample) "
        f"WHERE k IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT {MOST_PAIRS}"
    ).fetchall()
    for each, *counts in sorted(keys):
        first = f"list_filter({place.elements}, lambda p: (p ->> '$.{key}') = {literal(each)})[1]"
        values = [
            f"json_extract_string({first}, {literal(path)})"
            for path, count in zip(kinds, counts, strict=True)
            if count
        ]
        if values:
            sql = values[0] if len(values) == 1 else f"coalesce({', '.join(values)})"
            _add(found, (*place.path, each), sql, place.column)


def _value_paths(shape: object, path: str) -> Iterator[str]:
    if isinstance(shape, dict):
        for key, inner in shape.items():
            if isinstance(inner, str) and inner != "NULL":
                yield f"{path}.{key}"
    else:
        yield path


def _make_tables(connection: duckdb.DuckDBPyConnection, found: Leaves) -> None:
    """Makes a table of the leaves of rows, and one of each list's elements."""
    columns = ", ".join(f"({leaf.sql})::VARCHAR AS {leaf.alias}" for leaf in found.rows)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE leaves AS SELECT {columns or '1'} FROM sample"
    )
    for each in found.lists:
        columns = ", ".join(f"({leaf.sql})::VARCHAR AS {leaf.alias}" for leaf in each.leaves)
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {each.table} AS SELECT {columns or '1'} FROM "
            f"(SELECT *, unnest({each.sql}) AS each FROM sample)"
        )
