"""Tables of a lake without some users: only objects that hold them are written anew.

In:  every Parquet object of a lake with a column `user_id`. Out: the same objects, in one step
each, without the rows of the users; what their footers say stays, and the rows of others keep their
order and row groups. On a disk an object keeps its time of change but for a microsecond, so that
what is older or newer than others stays so.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.base.sql import parquet
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.paths import is_remote
from contracts.lake.publishing import publish_file
from contracts.lake.reading import open_parquet, read_metadata, read_schema, read_table, tree
from contracts.lake.schemas import ROWS_STAGED
from orchestration.forgetting.ids import Ids

# Folders of the lake that are not tables: landing.py and folders.py have their own ways.
_OTHERS = ("landing", "quarantine", "repairs", "sequences", "_staging", "running", "forgotten")

Gone = Callable[[pa.Table], pa.ChunkedArray]  # which rows go


def tables_with(root: Path, ids: Ids) -> dict[Path, int]:
    """Objects with rows of the users below the lake's root, or its local folder: path -> rows."""
    folders: dict[str, list[str]] = {}
    for path in sorted(tree(root)):
        is_table = path.endswith(".parquet") and path.partition("/")[0] not in _OTHERS
        if is_table and not path.startswith("feature_store/similar/"):
            # A table without days is an object of its own, and so is each view's state.
            folder = path.rpartition("/")[0]
            alone = folder in ("", "feature_store/online")
            folders.setdefault(path if alone else folder, []).append(path)
    found: dict[Path, int] = {}
    for paths in folders.values():
        if "user_id" in read_schema(root / paths[0]).names:
            found |= rows_by_object([root / path for path in paths], ids)
    return found


def rows_by_object(paths: Iterable[Path], ids: Ids) -> dict[Path, int]:
    """Objects that hold rows of the users, and how many, by their column `user_id`."""
    by_name = {str(path): path for path in paths}
    if not by_name:
        return {}
    with connect() as connection:
        connection.register("forgotten_ids", ids.table)
        rows = parquet("$files", "filename = true", "union_by_name = true")
        found = connection.execute(
            f"SELECT filename, count(*) FROM {rows} SEMI JOIN forgotten_ids USING (user_id) "
            "GROUP BY ALL ORDER BY ALL",
            {"files": list(by_name)},
        ).fetchall()
    return {by_name[name]: count for name, count in found}


def rewrite(
    lake: Lake, path: Path, gone: Gone, footer: dict[bytes, bytes] | None = None
) -> tuple[int, int]:
    """Writes an object anew without some of its rows; returns how many went, and how many stay.

    Args:
      lake: of the object.
      path: the object.
      gone: gets the rows of a row group, and says which go.
      footer: what its footer says anew.
    """
    went = kept = 0
    with lake.staging() as folder:
        staged = folder / path.name
        with pq.ParquetFile(open_parquet(path)) as file:
            schema, said = file.schema_arrow, file.metadata.metadata or {}
            # Some keys of a footer stand in the schema, and some beside it.
            beside = said.keys() - {b"ARROW:schema"} - (schema.metadata or {}).keys()
            with pq.ParquetWriter(staged, schema, compression="zstd") as writer:
                for number in range(file.num_row_groups):
                    rows = file.read_row_group(number)
                    left = rows.filter(pc.invert(gone(rows)))
                    went, kept = went + len(rows) - len(left), kept + len(left)
                    writer.write_table(left.cast(schema))
                writer.add_key_value_metadata({k: said[k] for k in beside} | (footer or {}))
        if not is_remote(path):
            status = path.stat()
            os.utime(staged, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000))
        publish_file(staged, path)
    return went, kept


def without_users(lake: Lake, path: Path, ids: Ids) -> None:
    """Removes the rows of the users from an object."""
    rewrite(lake, path, lambda rows: ids.among(rows["user_id"]))


def settle_events(lake: Lake, path: Path, ids: Ids, refused: Path) -> None:
    """Removes the users from a day of events, whose footer says how many rows there were to judge.

    Args:
      lake: of the day.
      path: its events.
      ids: who goes.
      refused: the day's rows in quarantine, without them already.
    """
    users = read_table(path, columns=["user_id"])["user_id"]
    left = len(users) - (pc.sum(ids.among(users)).as_py() or 0)
    staged = left + (read_metadata(refused).num_rows if refused.exists() else 0)
    said = (read_metadata(path).metadata or {}).get(ROWS_STAGED)
    if left < len(users) or (said and int(said) != staged):
        footer = {ROWS_STAGED: str(staged).encode()} if said else None
        rewrite(lake, path, lambda rows: ids.among(rows["user_id"]), footer)
