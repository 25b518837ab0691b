"""SQL expressions and types of the YAML, and faults told by the field they stand in."""

import re
from collections.abc import Iterable, Mapping

import duckdb
from duckdb.sqltypes import DuckDBPyType

from contracts.base.errors import FieldError, FootpathError
from contracts.base.sql import literal, name

# A cast of a name or a text, such as price::DOUBLE.
_CAST = re.compile(r"""("[^"]+"|'[^']*'|[\w.]+)::(\w+(?:\(\d+(?:, *\d+)?\))?(?:\[\d*\])*)""")


def struct_of(columns: Iterable[str]) -> str:
    """The SQL of a struct of columns under their own names."""
    return "{" + ", ".join(f"{literal(column)}: {name(column)}" for column in columns) + "}"


def text_of(sql: str) -> str:
    """The SQL of a value as text; a whole number has no fraction, of whatever type it is.

    An id is then the same, whether a source has 17850 or 17850.0 as a number. Text stays as it is.
    """
    text = f"({sql})::VARCHAR"
    whole = f"TRY_CAST({text} AS HUGEINT)"
    # DuckDB knows the type beforehand, so that a text is not looked at.
    return (
        f"CASE WHEN regexp_matches(typeof({sql}), '^(FLOAT|DOUBLE|DECIMAL)') "
        f"AND {whole}::DOUBLE = TRY_CAST({text} AS DOUBLE) THEN {whole}::VARCHAR ELSE {text} END"
    )


def map_of(values: Mapping[str, str]) -> str:
    """The SQL of a map of texts, from key -> SQL, without nulls; null if none is left."""
    pairs = ", ".join(
        f"{{'k': {literal(key)}, 'v': ({sql})::VARCHAR}}" for key, sql in values.items()
    )
    if not pairs:
        return "NULL::MAP(VARCHAR, VARCHAR)"
    return f"map_from_entries(nullif(list_filter([{pairs}], lambda pair: pair.v IS NOT NULL), []))"


def failure_of(where: str, sql: str, columns: Iterable[str], instead: str = "") -> str:
    """The SQL of a sentence on an expression that fails on a row: which, and on what values.

    Args:
      where: the field of the YAML.
      sql: the expression.
      columns: the declared columns; those that the expression names are shown.
      instead: an expression that gives null there; by default it is made of this one.
    """
    named = [c for c in columns if re.search(rf"(?<!\w){re.escape(c)}(?!\w)", sql)]
    quote = literal("'")
    values = " || ' and ' || ".join(
        f"{literal(f'{c} is ')} || coalesce({quote} || left({name(c)}::VARCHAR, 40) || {quote}, "
        "'null')"
        for c in named
    )
    text = literal(f"{where}: `{sql}` fails{' where ' if named else ''}")
    instead = instead or re.sub(
        r"(?i)(?<!\w)CAST\(", "TRY_CAST(", _CAST.sub(r"TRY_CAST(\1 AS \2)", sql)
    )
    instead = instead if instead != sql else f"TRY({sql})"
    advice = literal(f": `{instead}` gives null there")
    return " || ".join([text, values, advice] if values else [text, advice])


def column_types(
    connection: duckdb.DuckDBPyConnection, columns: Mapping[str, str]
) -> dict[str, str]:
    """Each column's type as DuckDB itself calls it, such as DOUBLE for float8.

    Raises:
      FootpathError: DuckDB has no such type.
    """
    types = {}
    for column, declared in columns.items():
        try:
            found = connection.execute(f"SELECT typeof(CAST(NULL AS {declared}))").fetchall()
        except duckdb.Error:
            raise FootpathError(
                f"column '{column}' is declared as '{declared}', which is not a DuckDB type: "
                f"use one such as VARCHAR, BIGINT, DOUBLE or TIMESTAMPTZ"
            ) from None
        types[column] = found[0][0]
    return types


def type_of(
    connection: duckdb.DuckDBPyConnection, columns: Mapping[str, str], sql: str
) -> DuckDBPyType:
    """The type of an expression over declared columns (column -> type)."""
    return connection.sql(f"SELECT ({sql}) FROM ({_nothing(columns)})").types[0]


def _nothing(columns: Mapping[str, str]) -> str:
    """The SELECT of a row of the declared columns, all null."""
    return "SELECT " + ", ".join(f"CAST(NULL AS {k}) AS {name(c)}" for c, k in columns.items())


def check_expressions(
    connection: duckdb.DuckDBPyConnection,
    where: str,
    columns: Mapping[str, str],
    expressions: Mapping[str, str],
) -> None:
    """Binds each expression against the declared columns, before any file is read.

    Args:
      connection: DuckDB.
      where: whose, and the YAML's section: "data set 'shop': events".
      columns: declared column -> type.
      expressions: field -> SQL.

    Raises:
      FieldError: an expression is not valid SQL over these columns.
    """
    owner, _, section = where.rpartition(": ")
    faults = []
    for field, expression in expressions.items():
        try:
            connection.execute(f"EXPLAIN SELECT ({expression}) FROM ({_nothing(columns)})")
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            text = (
                f"`{expression}` is not valid over the declared columns ({', '.join(columns)}): "
                f"{reason}"
            )
            faults.append(((section, *field.split(".")), text))
    if faults:
        raise FieldError(owner, faults)
