"""Texts that name some users: documents of the lake, logs of this machine, Dagster's databases.

In:  JSON and pages of a lake (reasons of stopped days, Data Docs, refused files); what processes of
this machine have printed; every text column of the databases in which Dagster keeps runs, events
and tags. Out: the same texts without the ids. Source files and copies of them are not looked at.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa

from contracts.lake.layout import Lake, home
from contracts.lake.publishing import publish_text
from contracts.lake.reading import tree
from orchestration.dagster_private import database_engines
from orchestration.forgetting.ids import Ids

_DOCUMENTS = (".json", ".html", ".md", ".txt", ".yaml")
_LOGS = (".log", ".out", ".err", ".txt")
# A manifest names its file, the list of who was forgotten holds no id, and leftovers go whole.
_NOT_TEXTS = ("landing/files/", "forgotten/", "_staging/", "running/")


def documents_with(lake: Lake, ids: Ids) -> list[Path]:
    """Documents of the lake, and of its folder on this machine, that name the users."""
    found = []
    for root in dict.fromkeys((lake.root, lake.work)):
        for path in sorted(tree(root)):
            if path.endswith(_DOCUMENTS) and not path.startswith(_NOT_TEXTS):
                with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
                    if ids.are_in((root / path).read_text(encoding="utf-8")):
                        found.append(root / path)
    return found


def mask_document(lake: Lake, path: Path, ids: Ids) -> None:
    """Writes a document anew without the ids."""
    publish_text(lake, ids.masked(path.read_text(encoding="utf-8")), path)


def logs_with(ids: Ids) -> list[Path]:
    """What processes of this machine have printed, where it names the users."""
    folders = [Path(os.environ.get("DAGSTER_HOME", home() / "dagster")), home() / "production"]
    logs = [path for folder in folders for path in sorted(folder.rglob("*"))]
    logs = [path for path in logs if path.suffix in _LOGS and path.is_file()]
    return [path for path in logs if ids.are_in(path.read_text("utf-8", "replace"))]


def blot_log(path: Path, ids: Ids) -> None:
    """Blots the ids out where they stand: whoever has the file open goes on writing at its end."""
    with open(path, "r+b") as file:
        start = 0
        for line in file.readlines():
            with contextlib.suppress(UnicodeDecodeError):
                blotted = ids.blotted(line.decode()).encode()
                if blotted != line:
                    file.seek(start)
                    file.write(blotted)
            start += len(line)


def dagster_texts(instance: dg.DagsterInstance, ids: Ids, change: bool) -> int:
    """Counts the texts in Dagster's databases that name the users.

    Args:
      instance: whose databases.
      ids: who is looked for.
      change: the ids are masked, too, and files are written without what was deleted.
    """
    total = 0
    for engine in database_engines(instance):
        found = 0
        with engine.begin() as connection:
            if change and engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA secure_delete = ON")
            for column in _text_columns(connection):
                for before in _texts_with(connection, column, ids):
                    found += 1
                    if change:
                        new = {column.name: ids.masked(before)}
                        connection.execute(
                            sa.update(column.table).where(column == before).values(new)
                        )
        if found and change and engine.dialect.name == "sqlite":
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("VACUUM")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        total += found
    return total


def _text_columns(connection: sa.Connection) -> Iterator[Any]:
    known = sa.MetaData()
    known.reflect(connection)
    for table in known.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, sa.String) and not column.foreign_keys:
                yield column


def _texts_with(connection: sa.Connection, column: Any, ids: Ids) -> list[str]:
    """The different texts of a column that name the users; the database looks first."""
    found = set()
    for each in ids.ids:
        # What JSON escapes is looked for by what stands before it.
        part = next((p for p in each.encode("ascii", "replace").decode().split("?") if p), "")
        part = part.partition('"')[0].partition("\\")[0]
        query = sa.select(column).where(column.contains(part, autoescape=True)).distinct()
        found.update(text for (text,) in connection.execute(query) if text and ids.are_in(text))
    return sorted(found)
