"""Rows that hold several things -> a row for each: the YAML's `explode`.

In:  `rows_read` (features/rows.py) and an expression over its columns that gives a list. Out: the
same rows with the columns `each`, an element, and `place`, its number from 1. A row whose list is
null, empty or fails is there once, with both of them null: no row is lost.
"""

from collections.abc import Mapping

import duckdb

from contracts.errors import FootpathError
from features.sql import check_expressions, name


def with_pieces(
    connection: duckdb.DuckDBPyConnection,
    where: str,
    columns: Mapping[str, str],
    explode: str | None,
) -> dict[str, str]:
    """Returns the declared columns and their types, and `each` and `place` where rows explode.

    Args:
      connection: DuckDB.
      where: the YAML's section, for the sentence.
      columns: declared column -> type.
      explode: SQL that gives a list.

    Raises:
      FootpathError: the expression is wrong, gives no list, or a column has a name of ours.
    """
    if explode is None:
        return dict(columns)
    if taken := {"each", "place"} & columns.keys():
        raise FootpathError(
            f"{where}.explode gives the columns each and place, and a declared column is called "
            f"{' and '.join(sorted(taken))}: call it otherwise"
        )
    check_expressions(connection, where, columns, {"explode": explode})
    nothing = ", ".join(f"CAST(NULL AS {kind}) AS {name(c)}" for c, kind in columns.items())
    (kind,) = connection.execute(f"SELECT typeof({explode}) FROM (SELECT {nothing})").fetchall()[0]
    if not kind.endswith("[]"):
        raise FootpathError(
            f"{where}.explode: `{explode}` gives {kind}, which is not a list: "
            f"use an expression such as string_split(column, ',')"
        )
    return {**columns, "each": kind.removesuffix("[]"), "place": "BIGINT"}


def exploded(rows: str, explode: str | None) -> str:
    """Returns SQL for a relation whose rows are parted, or for the relation itself."""
    if explode is None:
        return rows
    parts = f"SELECT *, CASE WHEN __problem IS NULL THEN TRY({explode}) END AS __pieces FROM {rows}"
    return (
        '(SELECT * EXCLUDE (__pieces), unnest(coalesce(nullif(__pieces, []), [NULL])) AS "each", '
        "unnest(CASE WHEN len(__pieces) > 0 THEN range(1, len(__pieces) + 1) ELSE [NULL] END) "
        f"AS place FROM ({parts}))"
    )
