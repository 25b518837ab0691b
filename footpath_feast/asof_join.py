"""The point-in-time join of Parquet files, as an ASOF join of DuckDB.

A row of a view counts for a label at time t if its event timestamp is at or before t and, where
only what was known may count, it was created by t. Of those the newest event timestamp wins, then
the newest `created`. A row is known from `known` on, the later of both clocks, and matters only if
it improves on all rows of its key that were known before. Of such rows the last with `known <= t`
is the answer: one inequality, and thus an ASOF join.

The join sees keys and clocks alone. It finds places, a file and a row in it, and only there are
features read: wide rows are never sorted. A file that was replaced in between is noticed, since
keys and clocks of those places are compared again.
"""

import datetime as dt
import functools
import os
import tempfile
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

ATTEMPTS = 5
PLACE = "((p.file_index::BIGINT << 36) | p.file_row_number)"  # of a row, in one number
MICROSECOND = dt.timedelta(microseconds=1)


@dataclass(frozen=True)
class Source:
    """Parquet files of one view."""

    view: str
    files: list[str]  # files, folders or globs
    keys: dict[str, str]  # column of the labels -> column of the view
    event: str
    created: str | None
    renamed: dict[str, str]  # column of the view -> column of the files
    ttl: dt.timedelta  # 0 where rows do not expire

    @property
    def rows(self) -> str:
        """SQL of the files, as table `p`."""
        files = ", ".join("'{}'".format(file.replace("'", "''")) for file in self.files)
        # A folder key=value must not take the place of the files' own column.
        return f"read_parquet([{files}], hive_partitioning = False) p"


@functools.cache
def _own_folder() -> tempfile.TemporaryDirectory:
    """A folder of this process, for no other user's eyes; it goes when the process ends."""
    return tempfile.TemporaryDirectory(prefix="footpath-feast-")


def connect(
    memory_limit: str, threads: int | None = None, temp_directory: str | None = None
) -> duckdb.DuckDBPyConnection:
    """Opens a DuckDB in UTC, which works in a folder where its memory does not suffice."""
    settings: dict[str, Any] = {
        "memory_limit": memory_limit,
        "temp_directory": temp_directory or os.path.join(_own_folder().name, "duckdb"),
        "preserve_insertion_order": False,
        "autoinstall_known_extensions": False,
    }
    connection = duckdb.connect(config=settings | ({"threads": threads} if threads else {}))
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def as_arrow(connection: duckdb.DuckDBPyConnection, query: str) -> pa.Table:
    """Rows of a query."""
    rows: Any = connection.sql(query)
    return rows.to_arrow_table()


def features_as_of(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    features: dict[str, str],
    labels: pa.Table,
    known_only: bool,
    created_by: dt.datetime | None = None,
) -> pa.Table:
    """Features of one view for every label.

    Args:
      connection: from `connect`, able to read the files.
      source: the view.
      features: column of the answer -> column of the view.
      labels: the columns that `source.keys` names, and `at`, a timestamp in UTC.
      known_only: leaves out rows that were created after the label's time.
      created_by: leaves out rows that were created after it, whatever the label's time.

    Returns:
      One row a label, in the order of the labels; null where no row counts.

    Raises:
      ValueError: the files lack a column, or a key is text on one side alone.
      RuntimeError: the files were replaced again and again while they were read.
    """
    columns = _columns(connection, source, [source.event, *features.values()])
    keys = {f"k{number}": labels.column(key) for number, key in enumerate(source.keys)}
    numbered = pa.table({"label": pa.array(range(len(labels)), pa.int64()), "at": labels["at"]})
    for name, values in (keys or {"k0": pa.array([True] * len(labels))}).items():
        numbered = numbered.append_column(name, values)
    connection.register("labels", numbered)
    _check_keys(connection, source, columns)
    identity = _identity(source, columns)
    counts = _counts(source, labels.column("at"), known_only, created_by)
    places = _places(source, identity, known_only and source.created is not None, counts)
    same = [f"{sql} IS NOT DISTINCT FROM f.{name}" for name, sql in identity.items()]
    read = [f"p.{columns[feature]} AS f{n}" for n, feature in enumerate(features.values())]
    names = ", ".join(numbered.column_names[2:])
    connection.execute(  # numbers sort faster than ids
        "CREATE OR REPLACE TEMP TABLE entities AS SELECT *, row_number() OVER () AS entity "
        f"FROM (SELECT DISTINCT {names} FROM labels)"
    )
    for _ in range(ATTEMPTS):
        connection.execute(f"CREATE OR REPLACE TEMP TABLE found AS {places}")
        answer = as_arrow(
            connection,
            f"""
            SELECT r.* EXCLUDE label, found.label IS NULL OR r.label IS NOT NULL AS is_whole
            FROM labels LEFT JOIN found ON labels.label = found.label LEFT JOIN (
              SELECT {", ".join(["f.label", *read])}
              FROM {source.rows} JOIN (FROM found JOIN entities USING (entity)) f
              ON {PLACE} = f.place AND {" AND ".join(same)}
            ) r ON labels.label = r.label
            ORDER BY labels.label""",
        )
        if pc.all(answer["is_whole"], min_count=0).as_py():
            return answer.drop_columns(["is_whole"]).rename_columns(list(features))
    raise RuntimeError(
        f"{source.files[0]} was replaced {ATTEMPTS} times while view {source.view} was read: "
        "ask again when nothing writes there"
    )


def moments(
    connection: duckdb.DuckDBPyConnection,
    sources: list[Source],
    start: dt.datetime,
    end: dt.datetime,
    created_by: dt.datetime | None,
) -> pa.Table:
    """Every moment of a time range, both ends included, at which a view has a row of an entity.

    Args:
      connection: from `connect`, able to read the files.
      sources: the views, which have the same keys.
      start: the first moment.
      end: the last moment.
      created_by: leaves out rows that were created after it.

    Returns:
      The keys and `event_timestamp`, by time and key.

    Raises:
      ValueError: a view has other keys than the first.
    """
    keys = list(sources[0].keys)
    queries = []
    for source in sources:
        if source.keys.keys() != set(keys):
            raise ValueError(
                f"view {source.view} is keyed by {list(source.keys)} and view {sources[0].view} by "
                f"{keys}: without an entity frame, ask for views of the same keys"
            )
        columns = _columns(connection, source, [source.event])
        identity = _identity(source, columns)
        read = [f"p.{columns[source.keys[key]]} AS {_name(key)}" for key in keys]
        known = f"AND {identity['created']} <= {_instant(created_by)}" if created_by else ""
        queries.append(
            f"SELECT DISTINCT {', '.join([*read, identity['event']])} AS event_timestamp "
            f"FROM {source.rows} WHERE {identity['event']} BETWEEN {_instant(start)} "
            f"AND {_instant(end)} {known if source.created else ''}"
        )
    order = ", ".join(["event_timestamp", *map(_name, keys)])
    return as_arrow(connection, f"{' UNION '.join(queries)} ORDER BY {order}")


def _places(source: Source, identity: dict[str, str], known_only: bool, counts: str) -> str:
    """SQL of which row of which file answers which label; `counts` is a condition on rows."""
    keys = ", ".join(name for name in identity if name.startswith("k"))
    listed = ", ".join(f"{sql} AS {name}" for name, sql in identity.items())
    best = "event >= max(event) OVER so_far AND" if known_only else ""  # else in order anyway
    ttl = f"WHERE epoch_us(l.at) - epoch_us(k.event) <= {source.ttl // MICROSECOND}"
    return f"""
      WITH stored AS (
        SELECT {listed}, {PLACE} AS place FROM {source.rows}
      ), counted AS (
        SELECT entity, event, created, place,
          {"greatest(event, created)" if known_only else "event"} AS known
        FROM stored JOIN entities USING ({keys}) WHERE {counts}
      ), improving AS (
        SELECT * FROM counted
        WINDOW so_far AS (
          PARTITION BY entity ORDER BY known, event, created NULLS FIRST, place
          ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
        QUALIFY {best} lead(known) OVER so_far IS DISTINCT FROM known
      ), asked AS (
        SELECT label, labels.at, entity FROM labels JOIN entities USING ({keys})
      )
      SELECT l.label, k.* EXCLUDE known
      FROM asked l ASOF JOIN improving k ON l.entity = k.entity AND l.at >= k.known
      {ttl if source.ttl else ""}"""


def _counts(
    source: Source, at: pa.ChunkedArray, known_only: bool, created_by: dt.datetime | None
) -> str:
    """SQL of which rows can count for any label: Parquet's statistics skip most others unread."""
    span = pc.min_max(at).as_py()
    if span["max"] is None:
        return "false"
    bounds = [f"event <= {_instant(span['max'])}"]
    if source.ttl:
        bounds.append(f"event >= {_instant(span['min'] - source.ttl)}")
    if known_only and source.created:  # and a row without `created` was never known
        bounds.append(f"created <= {_instant(span['max'])}")
    if created_by and source.created:
        bounds.append(f"created <= {_instant(created_by)}")
    return " AND ".join(bounds)


def _identity(source: Source, columns: dict[str, str]) -> dict[str, str]:
    """What a row is known by, keys k0, k1, ... and both clocks: name here -> SQL in the files."""
    keys = {f"k{n}": f"p.{columns[key]}" for n, key in enumerate(source.keys.values())}
    created = f"p.{columns[source.created]}" if source.created else "NULL"
    return (keys or {"k0": "true"}) | {
        "event": f"p.{columns[source.event]}::TIMESTAMPTZ",
        "created": f"{created}::TIMESTAMPTZ",
    }


def _columns(
    connection: duckdb.DuckDBPyConnection, source: Source, wanted: list[str]
) -> dict[str, str]:
    """Column of the view -> quoted column of the files."""
    found = [c[0] for c in connection.execute(f"FROM {source.rows} LIMIT 0").description or []]
    columns = dict(zip(found, found, strict=True))
    columns |= {view: file for view, file in source.renamed.items() if file in found}
    wanted = [*source.keys.values(), *wanted, *([source.created] if source.created else [])]
    missing = [column for column in wanted if column not in columns]
    if missing:
        names = ", ".join(missing)
        raise ValueError(f"view {source.view} has no column {names} in {source.files[0]}")
    return {column: _name(file) for column, file in columns.items()}


def _check_keys(connection: duckdb.DuckDBPyConnection, source: Source, columns: dict) -> None:
    """Refuses a key that DuckDB would cast in silence."""
    for number, (label, key) in enumerate(source.keys.items()):
        both = f"SELECT p.{columns[key]}, labels.k{number} FROM {source.rows}, labels LIMIT 0"
        stored, given = as_arrow(connection, both).schema.types
        if _is_text(stored) != _is_text(given):
            raise ValueError(
                f"column {label} of the entity frame holds {given}, and {key} of view "
                f"{source.view} holds {stored}: give ids of the kind that the view has"
            )


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def _instant(instant: dt.datetime) -> str:
    return f"TIMESTAMPTZ '{instant.astimezone(dt.UTC).isoformat()}'"


def _name(column: str) -> str:
    return '"{}"'.format(column.replace('"', '""'))
