"""Carries vectors from one day to the next, for the users who have done nothing in between.

In:  the published day of a model version that a later one is based on, the vectors that were made
anew for the later one, and who has an event by then. Out: the vectors of all users of the later.

A vector is carried as it was published, to the bit. A full embedding of the later day would find
the same one, or one that differs by the rounding of another batch (features/store/embeddings.py):
where a model looks at the time that has passed since, or where events or the catalog of the base
have changed, nothing is carried (orchestration/embedding/days.py decides).
"""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.base.clock import now
from contracts.base.errors import TransientError
from contracts.base.sql import literal, parquet
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file
from contracts.lake.reading import read_schema
from features.daily import BATCH_ROWS
from features.store.embeddings import check_columns
from features.store.view_specs import EMBEDDINGS


def carry_over(
    lake: Lake,
    version: str,
    base: dt.date,
    fresh: Path,
    everyone: Path,
    clocks: tuple[dt.datetime, dt.datetime],
    notes: Mapping[bytes, str],
) -> int:
    """Adds to the vectors made anew those that a base has of all other users.

    Args:
      lake: where `user_embeddings/<version>` lies.
      version: the model version.
      base: a published day before.
      fresh: a staged local file, as models/embed.py writes it, of the users with events after the
        base; not there where nobody has any. It is replaced.
      everyone: Parquet of the ids of all who have an event by the later day.
      clocks: event_timestamp and created of the later day's rows.
      notes: for the footer.

    Returns:
      How many vectors were carried.

    Raises:
      FootpathError: the base has other columns.
      TransientError: events or base have changed meanwhile, and somebody is in neither.
    """
    published = lake.day(f"{EMBEDDINGS}/{version}", base)
    if fresh.exists():
        check_columns(published, fresh)
    schema = read_schema(published).remove_metadata()
    with lake.staging() as folder, connect() as connection:
        made = f"SELECT * FROM {parquet(literal(str(fresh)))}"
        connection.execute(
            f"CREATE TEMP TABLE wanted AS SELECT user_id FROM {parquet(literal(str(everyone)))}"
            + (f" ANTI JOIN ({made}) USING (user_id)" if fresh.exists() else "")
        )
        # A base that was embedded again has several rows of some users: the newest counts.
        connection.execute(
            "CREATE TEMP TABLE carried AS SELECT user_id, max(created) AS created "
            f"FROM {parquet('$base')} SEMI JOIN wanted USING (user_id) GROUP BY user_id",
            {"base": str(published)},
        )
        wanted, found = (_count(connection, name) for name in ("wanted", "carried"))
        if found < wanted:
            raise TransientError(
                f"{wanted - found} users of {version} have events, and no vector on {base}: "
                "events were published while they were read"
            )
        instants = dict(zip(("event_timestamp", "created"), clocks, strict=True))
        anew = instants | {"written_at": now()}
        chosen = ", ".join(f"${name} AS {name}" if name in anew else name for name in schema.names)
        kept = f"SELECT * FROM {parquet('$base')} SEMI JOIN carried USING (user_id, created)"
        rows = connection.sql(
            f"SELECT {chosen} FROM ({kept}) "
            + (f"UNION ALL BY NAME {made} " if fresh.exists() else "")
            + "ORDER BY user_id",
            params={"base": str(published)} | anew,
        )
        merged = folder / fresh.name
        with pq.ParquetWriter(merged, schema, compression="zstd") as writer:
            for batch in rows.to_arrow_reader(BATCH_ROWS):
                part = pa.Table.from_batches([batch]).select(schema.names)
                writer.write_table(part.cast(schema))
            writer.add_key_value_metadata({name: said.encode() for name, said in notes.items()})
        publish_file(merged, fresh)
    return found


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    return connection.sql(f"SELECT count(*) FROM {table}").fetchall()[0][0]
