"""The YAML's expressions -> canonical events, rows refused that have none.

In:  `rows_read` (reader.py). Out: a SELECT with `__file`, `__line`, `__raw`, `__broken` (the
rule that the row breaks, or null), `__detail`, the fields of an event, and `source_sequence`. Empty
text is null. An expression that fails on a row refuses that row; for `timestamp`, failing and
giving null are the same: undated.

With `explode`, a row becomes a row for each element of the list that it gives, with the columns
`each`, the element, and `place`, its number from 1. A row whose list is null or empty is there
once, with both of them null; one on which the expression fails too, with its problem: no row is
lost.
"""

import re
from collections.abc import Iterable, Mapping

import duckdb

from contracts.base.errors import FieldError
from contracts.base.sql import literal, name
from contracts.config.dataset import Dataset
from contracts.lake.schemas import EVENT_FIELDS
from features.expressions import (
    check_expressions,
    column_types,
    failure_of,
    map_of,
    struct_of,
    text_of,
    type_of,
)
from features.ingestion.formats.declared_types import lossy_casts
from features.ingestion.reader import ROWS

# Why a row is refused before it is an event.
UNREADABLE = "unreadable"
UNDATED = "undated"
OUT_OF_RANGE = "out_of_range"
TOO_LATE = "too_late"
REFUSALS = (UNREADABLE, UNDATED, OUT_OF_RANGE, TOO_LATE)

_WHOLE_NUMBERS = re.compile("U?(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)")


def check_mapping(connection: duckdb.DuckDBPyConnection, dataset: Dataset) -> None:
    """Binds the data set's expressions before any file is read.

    Raises:
      FieldError: an expression is wrong.
      FootpathError: a column type is.
    """
    column_types(connection, dataset.landing.columns)
    given = _expressions(dataset) | {"sequence": dataset.events.sequence}
    expressions = {field: sql for field, sql in given.items() if sql}
    expressions |= {f"properties.{k}": sql for k, sql in dataset.events.properties.items()}
    where = f"data set '{dataset.name}': events"
    columns = exploded_columns(connection, where, dataset.landing.columns, dataset.events.explode)
    check_expressions(connection, where, columns, expressions)
    if sequence := dataset.events.sequence:
        kind = str(type_of(connection, columns, sequence))
        if not _WHOLE_NUMBERS.fullmatch(kind):
            text = (
                f"`{sequence}` gives a {kind}, not a whole number: use an expression such as "
                f"TRY_CAST(step AS BIGINT)"
            )
            raise FieldError(f"data set '{dataset.name}'", [(("events", "sequence"), text)])


def events_select(dataset: Dataset) -> str:
    """The SELECT that turns `rows_read` into events and refused rows.

    `__place` is the element's place in the list that `explode` gave, `__length` the length of that
    list on its first element; both are null otherwise.
    """
    mapped = ", ".join(
        f"{literal(field)}: {_typed(field, sql)}"
        for field, sql in _expressions(dataset).items()
        if field != "timestamp"
    )
    mapped += f", 'properties': {map_of(dataset.events.properties)}"
    mapped += f", 'sequence': ({dataset.events.sequence or 'NULL'})::BIGINT"
    timestamp = f"TRY(({dataset.events.timestamp})::TIMESTAMPTZ)"
    timestamp = f"CASE WHEN {lossy_casts(dataset.events.timestamp)} IS NULL THEN {timestamp} END"
    undated = lossy_casts(dataset.events.timestamp, or_unknown=True)
    fields = ", ".join(f"__event.{name(f)} AS {name(f)}" for f in EVENT_FIELDS if f != "timestamp")
    # A row of many elements is not copied for each: partition.py gives it to the first one.
    row = f"coalesce(__raw, to_json({struct_of(dataset.landing.columns)})::VARCHAR)"
    raw = "NULL::VARCHAR" if dataset.events.explode else row
    undated = f"coalesce({undated}, {literal(f'`{dataset.events.timestamp}` gives no timestamp')})"
    failed, columns = _failed(dataset), dataset.landing.columns
    nested = f"CASE {' '.join(map(_nested_id, ('user_id', 'item_id')))} END"
    return (
        f"SELECT __file, __line, {raw} AS __raw, "
        "CASE WHEN __problem IS NOT NULL OR __event IS NULL OR __nested IS NOT NULL "
        f"THEN {literal(UNREADABLE)} "
        f"WHEN __timestamp IS NULL THEN {literal(UNDATED)} END AS __broken, "
        f"coalesce(__problem, __nested, CASE WHEN __event IS NULL THEN {failed} "
        f"WHEN __timestamp IS NULL THEN {undated} END) AS __detail, "
        f"__place, __length, __event.sequence AS source_sequence, "
        f"__timestamp AS timestamp, {fields} "
        f"FROM (SELECT *, {nested} AS __nested "
        # Of what lies at infinity, or in no year of the calendar, there is no day.
        "FROM (SELECT * REPLACE (CASE WHEN __timestamp BETWEEN '0001-01-02' AND '9999-12-30' THEN "
        "__timestamp END AS __timestamp) "
        f"FROM (SELECT *, CASE WHEN __problem IS NULL THEN {timestamp} END AS __timestamp, "
        f"CASE WHEN __problem IS NULL THEN TRY({{{mapped}}}) "
        f"END AS __event FROM {exploded(ROWS, 'events', dataset.events.explode, columns)})))"
    )


def _failed(dataset: Dataset) -> str:
    """The SQL of what is told of a row on which an expression fails: which one, on what values."""
    events, columns = dataset.events, list(dataset.landing.columns)
    columns += ["each", "place"] if events.explode else []
    given = {
        field: (sql, _typed(field, sql))
        for field, sql in _expressions(dataset).items()
        if sql and field != "timestamp"
    }
    given |= {f"properties.{key}": (sql, sql) for key, sql in events.properties.items()}
    if events.sequence:
        given["sequence"] = events.sequence, f"({events.sequence})::BIGINT"
    tests = []
    for field, (sql, typed) in given.items():
        instead = f"TRY_CAST({sql} AS DOUBLE)" if field == "value" and "::" not in sql else ""
        said = failure_of(f"events.{field}", sql, columns, instead)
        if sql in columns and field != "value":
            continue  # a column as text does not fail
        # In a struct, what is null is told from what fails.
        tests.append(f"WHEN TRY({{'v': {typed}}}) IS NULL THEN {said}")
    return f"CASE {' '.join(tests)} END" if tests else "NULL"


def _nested_id(field: str) -> str:
    """A branch that says so where an id is an object or array: all such rows would be one user."""
    text = f"__event.{name(field)}"
    said = f"'events.{field} is ' || left({text}, 40) || ', an object or array and no id'"
    starts = f"(starts_with({text}, '{{') OR starts_with({text}, '['))"
    return f"WHEN CASE WHEN {starts} THEN json_valid({text}) END THEN {said}"


def _typed(field: str, sql: str | None) -> str:
    return (
        f"({sql or 'NULL'})::DOUBLE"
        if field == "value"
        else f"nullif({text_of(sql or 'NULL')}, '')"
    )


def _expressions(dataset: Dataset) -> dict[str, str | None]:
    """Returns field -> SQL for every field of an event but `properties`."""
    fields = [field for field in EVENT_FIELDS if field != "properties"]
    return {field: getattr(dataset.events, field) for field in fields}


def exploded_columns(
    connection: duckdb.DuckDBPyConnection,
    where: str,
    columns: Mapping[str, str],
    explode: str | None,
) -> dict[str, str]:
    """The declared columns and their types, and `each` and `place` where rows explode.

    Args:
      connection: DuckDB.
      where: whose, and the YAML's section: "data set 'shop': events".
      columns: declared column -> type.
      explode: SQL that gives a list.

    Raises:
      FieldError: the expression is wrong, gives no list, or a column has a name of ours.
    """
    if explode is None:
        return dict(columns)
    check_expressions(connection, where, columns, {"explode": explode})
    owner, _, section = where.rpartition(": ")
    if taken := columns.keys() & {"each", "place"}:
        text = (
            f"it gives the columns each and place, and the columns declare "
            f"{' and '.join(sorted(taken))} too: give it another name there"
        )
        raise FieldError(owner, [((section, "explode"), text)])
    kind = type_of(connection, columns, explode)
    if kind.id != "list":
        text = (
            f"`{explode}` gives a {kind}, not a list: use an expression such as "
            f"string_split(items, ' ') or items::VARCHAR[]"
        )
        raise FieldError(owner, [((section, "explode"), text)])
    return {**columns, "each": str(kind.child), "place": "BIGINT"}


def exploded(rows: str, section: str, explode: str | None, columns: Iterable[str]) -> str:
    """The SQL of the rows, each as often as its list has elements but at least once.

    `__place` is the element's place in the list, `__length` the length of that list on its first
    element; both are null otherwise.
    """
    if explode is None:
        return f"(SELECT *, NULL::BIGINT AS __place, NULL::BIGINT AS __length FROM {rows})"
    failed = failure_of(f"{section}.explode", explode, columns)
    # In a struct, a list that is null is told from an expression that fails.
    lists = f"SELECT *, CASE WHEN __problem IS NULL THEN TRY({{'l': ({explode})}}) END AS __x"
    return (
        "(SELECT * EXCLUDE (__x, __len, __n), CASE WHEN __len > 0 THEN __n END AS __place, "
        "__place AS place, CASE WHEN __n = 1 AND __len > 0 THEN __len END AS __length FROM ("
        f"SELECT * REPLACE (coalesce(__problem, CASE WHEN __x IS NULL THEN {failed} END) "
        "AS __problem), len(__x.l) AS __len, "
        'unnest(CASE WHEN len(__x.l) > 0 THEN __x.l ELSE [NULL] END) AS "each", '
        "unnest(range(1, greatest(len(__x.l), 1) + 1)) AS __n "
        f"FROM ({lists} FROM {rows})))"
    )
