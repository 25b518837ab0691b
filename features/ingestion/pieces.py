"""Rows that hold several things -> a row for each: the YAML's `explode`.

In:  `rows_read` (rows.py) and an expression over its columns that gives a list. Out: the
same rows with the columns `each`, an element, and `place`, its number from 1. A row whose list is
null or empty is there once, with both of them null; one on which the expression fails too, with its
problem: no row is lost.
"""

from collections.abc import Mapping

import duckdb

from contracts.base.errors import FootpathError
from contracts.base.sql import literal, name
from features.sql import check_expressions


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
    check_expressions(connection, where, columns, {"explode": explode})
    if taken := columns.keys() & {"each", "place"}:
        raise FootpathError(
            f"{where}.explode gives the columns each and place, and the columns declare "
            f"{' and '.join(sorted(taken))} too: give it another name there"
        )
    nothing = ", ".join(f"CAST(NULL AS {kind}) AS {name(c)}" for c, kind in columns.items())
    kind = connection.sql(f"SELECT ({explode}) FROM (SELECT {nothing})").types[0]
    if kind.id != "list":
        raise FootpathError(
            f"{where}.explode: `{explode}` gives a {kind}, not a list: use an expression such as "
            f"string_split(items, ' ') or items::VARCHAR[]"
        )
    return {**columns, "each": str(kind.child), "place": "BIGINT"}


def exploded(rows: str, section: str, explode: str | None) -> str:
    """Returns the SQL of the rows, each as often as its list has elements but at least once.

    `__place` is the element's place in the list, `__pieces` the length of that list on its first
    element; both are null otherwise.
    """
    if explode is None:
        return f"(SELECT *, NULL::BIGINT AS __place, NULL::BIGINT AS __pieces FROM {rows})"
    failed = literal(f"the SQL expression of the YAML's {section}.explode fails on this row")
    # In a struct, a list that is null is told from an expression that fails.
    lists = f"SELECT *, CASE WHEN __problem IS NULL THEN TRY({{'l': ({explode})}}) END AS __x"
    return (
        "(SELECT * EXCLUDE (__x, __length, __n), CASE WHEN __length > 0 THEN __n END AS __place, "
        "__place AS place, CASE WHEN __n = 1 AND __length > 0 THEN __length END AS __pieces FROM ("
        f"SELECT * REPLACE (coalesce(__problem, CASE WHEN __x IS NULL THEN {failed} END) "
        "AS __problem), len(__x.l) AS __length, "
        'unnest(CASE WHEN len(__x.l) > 0 THEN __x.l ELSE [NULL] END) AS "each", '
        "unnest(range(1, greatest(len(__x.l), 1) + 1)) AS __n "
        f"FROM ({lists} FROM {rows})))"
    )
