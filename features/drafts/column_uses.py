"""What each declared column is used for: the fields of the YAML whose SQL names it."""

import json
from collections.abc import Iterator
from typing import Any

import duckdb

from contracts.config.dataset import Dataset
from contracts.config.source import EventMapping, FileTable
from contracts.lake.engine import connect


def column_uses(dataset: Dataset) -> dict[str, dict[str, list[str]]]:
    """Section with files -> declared column -> fields that use it, such as events.user_id.

    Expressions have to be valid: they are parsed, so that a word in a text is no column.
    """
    sections = {"landing": (dataset.landing, "events", dataset.events)}
    for name in ("items", "users"):
        if table := getattr(dataset, name):
            sections[name] = (table, name, table)
    uses = {}
    with connect() as connection:
        for name, (files, of, section) in sections.items():
            used: dict[str, list[str]] = {column: [] for column in files.columns}
            lower = {column.lower(): column for column in files.columns}
            for field, sql in _expressions(section):
                for word in sorted(_columns_of(connection, sql)):
                    if column := lower.get(word):
                        used[column].append(f"{of}.{field}")
            uses[name] = used
    return uses


def _expressions(section: EventMapping | FileTable) -> Iterator[tuple[str, str]]:
    """The fields of a section that hold SQL, and it."""
    for field in type(section).model_fields:
        if field in FileTable.model_fields:
            continue
        value = getattr(section, field)
        if isinstance(value, dict):
            yield from ((f"{field}.{key}", sql) for key, sql in value.items())
        elif value:
            yield field, value


def _columns_of(connection: duckdb.DuckDBPyConnection, sql: str) -> set[str]:
    """The columns that an expression names, in small letters."""
    tree = connection.execute("SELECT json_serialize_sql($1)", [f"SELECT ({sql})"]).fetchall()
    return {word.lower() for word in _references(json.loads(tree[0][0]))}


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("class") == "COLUMN_REF":
            yield node["column_names"][0]
        for part in node.values():
            yield from _references(part)
    elif isinstance(node, list):
        for part in node:
            yield from _references(part)
