"""Finds the rows of a view that the online store does not have yet.

In come the daily objects and the state that the last materialization left; out comes the latest row
of every user, or item, by (event_timestamp, created, written_at), unless the store has it or has
one of a later day. So a corrected day reaches the store, though its event_timestamp is equal, and
a late or backfilled old day does not overwrite a newer one.

The state is one Parquet file a view: clocks and digest of every row in the store, and in
its metadata the objects that were read (name, and what changes with it) and the token of the
store that was written. Objects that have not changed are not read again; a store that lost its
token is filled from scratch.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from contracts.base.sql import parquet
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from contracts.lake.reading import read_table, stamps
from contracts.lake.schemas import FEATURE_CLOCKS
from features.daily import read_by_name
from features.store.view_specs import View, repository

CLOCKS = tuple(field.name for field in FEATURE_CLOCKS)
# A digest is DuckDB's hash of the values, so that it holds for one version of DuckDB.
DIGEST = pa.field("digest", pa.uint64(), nullable=False)
TYPES = {"int64": "BIGINT", "float64": "DOUBLE", "string": "VARCHAR"}


@dataclass(frozen=True)
class State:
    """What the online store holds of one view."""

    token: str
    objects: dict[str, str]  # file name -> what changes when the file does
    rows: pa.Table  # of state_schema

    @classmethod
    def empty(cls, token: str, view: View) -> "State":
        """The state of a new store."""
        return cls(token, {}, state_schema(view).empty_table())


def state_schema(view: View) -> pa.Schema:
    """The columns of a view's state: user or item, clocks, digest."""
    return pa.schema([pa.field(view.key, pa.string(), nullable=False), *FEATURE_CLOCKS, DIGEST])


def read_state(lake: Lake, view: View, token: str) -> State:
    """The state that was left for the store of this token; an empty one for another."""
    path = state_path(lake, view)
    if path.exists():
        rows = read_table(path)
        metadata = json.loads((rows.schema.metadata or {})[b"footpath"])
        if (metadata["token"], metadata["duckdb"]) == (token, duckdb.__version__):
            return State(token, metadata["objects"], rows.replace_schema_metadata(None))
    return State.empty(token, view)


def publish_state(lake: Lake, view: View, state: State) -> None:
    """Makes a state the one that the next materialization starts from."""
    known = {"token": state.token, "objects": state.objects, "duckdb": duckdb.__version__}
    metadata = json.dumps(known)
    table = state.rows.replace_schema_metadata({"footpath": metadata})
    publish_table(lake, table, state_path(lake, view))


def forget_in_state(
    lake: Lake, view: View, users: list[str], moved: Mapping[str, tuple[str, str]]
) -> None:
    """Takes users out of the state of a view of users, whatever store it is of.

    Args:
      lake: of the view.
      view: whose state.
      users: who goes.
      moved: objects of the view that were written anew without them: name -> what changed with it
        before, and what does now. They count as read if they did before.
    """
    path = state_path(lake, view)
    if not path.exists() or view.entity != "user":
        return
    rows = read_table(path)
    known = json.loads((rows.schema.metadata or {})[b"footpath"])
    for name, (before, after) in moved.items():
        if known["objects"].get(name) == before:
            known["objects"][name] = after
    left = rows.filter(pc.invert(pc.is_in(rows[view.key], pa.array(users, pa.string()))))
    left = left.replace_schema_metadata({"footpath": json.dumps(known)})
    if not left.equals(rows, check_metadata=True):
        publish_table(lake, left, path)


class Changes:
    """The rows of a view that are newer than a state, ready to be read in batches."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, lake: Lake, view: View, state: State
    ) -> None:
        self._connection = connection
        self.view = view
        self._state = state
        self._objects = stamps(lake.table(view.table))
        self._files = [
            str(lake.table(view.table) / name)
            for name, stamp in sorted(self._objects.items())
            if state.objects.get(name) != stamp
        ]
        self._digests: list[pa.RecordBatch] = []
        self.rows = self._find() if self._files else 0

    def batches(self, size: int) -> Iterator[pa.RecordBatch]:
        """Gives users or items, the clocks and the features, sorted by Feast's entity key."""
        if not self.rows:
            return
        import ibis

        key = self.view.key
        columns = ", ".join(
            f'CAST("{c.source}" AS {TYPES.get(c.kind) or _vector(c.kind)}) AS "{c.name}"'
            for c in self.view.columns
        )
        engine = ibis.duckdb.from_connection(self._connection)
        schema = pa.schema([(c.source, c.type) for c in self.view.columns])
        rows = ibis.to_sql(read_by_name(engine, self._files, schema), dialect="duckdb")
        relation = self._connection.sql(
            f"SELECT *, {digest(self.view)} AS digest FROM ("
            f"SELECT {key}, {', '.join(CLOCKS)}, {columns} "
            f"FROM ({rows}) SEMI JOIN due USING ({key}, {', '.join(CLOCKS)})) "
            f"ORDER BY strlen({key}), {key}"
        )
        for batch in relation.to_arrow_reader(size):
            self._digests.append(batch.select([key, "digest"]))
            yield batch.drop_columns(["digest"])

    def state(self) -> State:
        """The state once every batch is written."""
        rows, key = self._state.rows, self.view.key
        if self.rows:
            self._connection.register("digests", pa.Table.from_batches(self._digests))
            rows = self._connection.sql(
                f"SELECT due.*, digest FROM due JOIN digests USING ({key}) UNION ALL "
                f"SELECT * FROM known ANTI JOIN due USING ({key}) ORDER BY {key}"
            ).to_arrow_table()
        return State(self._state.token, self._objects, rows.cast(state_schema(self.view)))

    def _find(self) -> int:
        """Makes the table `due`: the newest clocks of each one whose row must be written.

        A day's object holds all revisions of the day, so that its newest is the one to have.
        """
        key = self.view.key
        self._connection.register("known", self._state.rows)
        clocks = f"struct_pack({', '.join(f'{name} := {name}' for name in CLOCKS)})"
        self._connection.execute(
            f"CREATE OR REPLACE TEMP TABLE due AS SELECT {key}, unnest(newest) FROM "
            f"(SELECT {key}, max({clocks}) AS newest FROM {parquet('$files')} GROUP BY ALL) "
            f"LEFT JOIN (SELECT {key}, {clocks} AS held FROM known) USING ({key}) "
            "WHERE held IS NULL OR newest.event_timestamp > held.event_timestamp "
            "OR (newest.event_timestamp = held.event_timestamp AND newest != held)",
            {"files": self._files},
        )
        return self._connection.sql("SELECT count(*) FROM due").fetchall()[0][0]


def digest(view: View) -> str:
    """SQL of a row's digest, over columns named as the view's features; NaN is no value."""
    values = [
        f'CASE WHEN NOT isnan("{c.name}") THEN "{c.name}" END' if c.kind == "float64"
        else f'"{c.name}"'
        for c in view.columns
    ]  # fmt: skip
    return f"hash({', '.join(values)})"


def state_path(lake: Lake, view: View) -> Path:
    """Where the state of a view lies."""
    return repository(lake) / "online" / f"{view.name}.parquet"


def _vector(kind: str) -> str:
    return kind.replace("float32", "FLOAT")
