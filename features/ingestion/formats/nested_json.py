"""The SQL that reads a JSON value of a nested type, and names what does not fit.

DuckDB's own cast of JSON to a STRUCT rounds numbers, drops offsets, and makes null of what is no
object. Here each value in it is read as a column of its own would be: through text, with what its
type cannot hold found and named.
"""

import json
from collections.abc import Callable

import duckdb
from duckdb.sqltypes import DuckDBPyType

from contracts.base.sql import literal, name
from features.ingestion.formats.declared_types import misfit

# SQL of a JSON value, whether its type is text -> SQL of its text.
Text = Callable[[str, bool], str]


def nested_read(value: str, kind: str, where: str, text: Text) -> str:
    """The SQL of a struct of the value as its type (`v`) and of a sentence on what is wrong (`p`).

    Args:
      value: SQL of JSON, or null.
      kind: a type as DuckDB itself calls it.
      where: the column.
      text: gives the SQL of the text of a JSON value.
    """
    with duckdb.connect() as connection:
        found = connection.sql(f"SELECT NULL::{kind}").types[0]
    return _read(value, found, where, text, 0)


def _read(value: str, kind: DuckDBPyType, where: str, text: Text, depth: int) -> str:
    x, r = f"x{depth}", f"r{depth}"
    if str(kind) == "JSON" or kind.id not in ("struct", "list", "map"):
        return _read_scalar(value, kind, where, text, x)
    none = f"{{'v': NULL::{kind}, 'p': NULL::VARCHAR}}"
    said = f"{literal(f'{where} is ')} || left({x}, 40) || {literal(f', which is not {kind}')}"
    wrong = f"{{'v': NULL::{kind}, 'p': {said}}}"
    first = "[" if kind.id == "list" else "{"
    if kind.id == "struct":
        inside = _read_struct(x, kind, where, text, depth)
    elif kind.id == "list":
        elements = f"json_transform({x}, '[\"JSON\"]')"
        element = _read(f"e{depth}", kind.child, where, text, depth + 1)
        read = f"list_transform({elements}, lambda e{depth}: {element})"
        inside = _bound(
            read,
            r,
            f"{{'v': list_transform({r}, lambda z: z.v), "
            f"'p': list_filter(list_transform({r}, lambda z: z.p), lambda z: z IS NOT NULL)[1]}}",
        )
    else:
        key, content = (child for _, child in kind.children)
        entries = f"map_entries(TRY_CAST({x}::JSON AS MAP(VARCHAR, JSON)))"
        element = _read(f"e{depth}.value::VARCHAR", content, where, text, depth + 1)
        read = f"list_transform({entries}, lambda e{depth}: {{'k': e{depth}.key, 'r': {element}}})"
        pairs = f"list_transform({r}, lambda z: {{'k': TRY_CAST(z.k AS {key}), 'v': z.r.v}})"
        inside = _bound(
            read,
            r,
            f"{{'v': map_from_entries({pairs}), "
            f"'p': list_filter(list_transform({r}, lambda z: z.r.p), lambda z: z IS NOT NULL)[1]}}",
        )
    return _bound(
        f"({value})::VARCHAR",
        x,
        f"CASE WHEN {x} IS NULL OR {x} = 'null' THEN {none} "
        f"WHEN NOT starts_with({x}, '{first}') THEN {wrong} ELSE {inside} END",
    )


def _read_struct(x: str, kind: DuckDBPyType, where: str, text: Text, depth: int) -> str:
    s, r = f"s{depth}", f"r{depth}"
    fields = [(field, child) for field, child in kind.children]
    wanted = literal(json.dumps({field: "JSON" for field, _ in fields}))
    parts = {
        field: _read(f"{s}.{name(field)}", child, f"{where}.{field}", text, depth + 1)
        for field, child in fields
    }
    read = ", ".join(f"{name(field)} := {part}" for field, part in parts.items())
    values = ", ".join(f"{name(field)} := {r}.{name(field)}.v" for field, _ in fields)
    problems = ", ".join(f"{r}.{name(field)}.p" for field, _ in fields)
    packed = f"{{'v': struct_pack({values}), 'p': nullif(concat_ws('; ', {problems}), '')}}"
    return _bound(f"json_transform({x}, {wanted})", s, _bound(f"struct_pack({read})", r, packed))


def _read_scalar(value: str, kind: DuckDBPyType, where: str, text: Text, x: str) -> str:
    """Of JSON a value as it is, of other types through its text."""
    if str(kind) == "JSON":
        return f"{{'v': ({value})::JSON, 'p': NULL::VARCHAR}}"
    said = misfit(x, where, str(kind), "VARCHAR")
    typed = f"{{'v': TRY_CAST({x} AS {kind}), 'p': {said or 'NULL::VARCHAR'}}}"
    return _bound(text(value, str(kind) == "VARCHAR"), x, typed)


def _bound(value: str, variable: str, sql: str) -> str:
    """The SQL of an expression in which a variable is a value that is computed once."""
    return f"list_transform([{value}], lambda {variable}: {sql})[1]"
