"""The YAML's expressions -> canonical events, rows refused that have none.

In:  `rows_read` (rows.py). Out: a SELECT with `__file`, `__line`, `__raw`, `__broken` (the
rule that the row breaks, or null), `__detail`, and the fields of an event. Empty text is null. An
expression that fails on a row refuses that row; for `timestamp`, failing and giving null are the
same: undated. With `explode`, each element of the list that a row gives is an event, or is refused.
"""

import duckdb

from contracts.base.sql import literal, name
from contracts.config.dataset import Dataset
from contracts.lake.schemas import EVENTS
from features.ingestion.pieces import exploded, with_pieces
from features.ingestion.rows import ROWS
from features.sql import check_expressions, column_types, map_of

# Why a row is refused before it is an event.
UNREADABLE = "unreadable"
UNDATED = "undated"
OUT_OF_RANGE = "out_of_range"
TOO_LATE = "too_late"

FIELDS = [field.name for field in EVENTS]


def check_mapping(connection: duckdb.DuckDBPyConnection, dataset: Dataset) -> None:
    """Binds the data set's expressions before any file is read.

    Raises:
      FootpathError: a column type or an expression is wrong.
    """
    column_types(connection, dataset.landing.columns)
    expressions = {field: sql for field, sql in _expressions(dataset).items() if sql}
    expressions |= {f"properties.{k}": sql for k, sql in dataset.events.properties.items()}
    where = f"data set '{dataset.name}': events"
    columns = with_pieces(connection, where, dataset.landing.columns, dataset.events.explode)
    check_expressions(connection, where, columns, expressions)


def events_select(dataset: Dataset) -> str:
    """Returns the SELECT that turns `rows_read` into events and refused rows.

    `__place` is the element's place in the list that `explode` gave, `__pieces` the length of that
    list on its first element; both are null otherwise.
    """
    mapped = ", ".join(
        f"{literal(field)}: {_typed(field, sql)}"
        for field, sql in _expressions(dataset).items()
        if field != "timestamp"
    )
    mapped += f", 'properties': {map_of(dataset.events.properties)}"
    timestamp = f"TRY(({dataset.events.timestamp})::TIMESTAMPTZ)"
    fields = ", ".join(f"__event.{name(f)} AS {name(f)}" for f in FIELDS if f != "timestamp")
    columns = ", ".join(f"{literal(c)}: {name(c)}" for c in dataset.landing.columns)
    undated = literal(f"`{dataset.events.timestamp}` gives no timestamp")
    failed = literal("an SQL expression of the YAML's events fails on this row")
    return (
        f"SELECT __file, __line, coalesce(__raw, to_json({{{columns}}})::VARCHAR) AS __raw, "
        f"CASE WHEN __problem IS NOT NULL OR __event IS NULL THEN {literal(UNREADABLE)} "
        f"WHEN __timestamp IS NULL THEN {literal(UNDATED)} END AS __broken, "
        f"coalesce(__problem, CASE WHEN __event IS NULL THEN {failed} "
        f"WHEN __timestamp IS NULL THEN {undated} END) AS __detail, "
        f"__place, __pieces, __timestamp AS timestamp, {fields} "
        f"FROM (SELECT *, CASE WHEN __problem IS NULL THEN {timestamp} END AS __timestamp, "
        f"CASE WHEN __problem IS NULL THEN TRY({{{mapped}}}) "
        f"END AS __event FROM {exploded(ROWS, 'events', dataset.events.explode)})"
    )


def _typed(field: str, sql: str | None) -> str:
    return (
        f"({sql or 'NULL'})::DOUBLE"
        if field == "value"
        else f"nullif(({sql or 'NULL'})::VARCHAR, '')"
    )


def _expressions(dataset: Dataset) -> dict[str, str | None]:
    """Returns field -> SQL for every field of an event but `properties`."""
    return {field: getattr(dataset.events, field) for field in FIELDS if field != "properties"}
