"""Publishes a day's embeddings: a day that is embedded again keeps what was known of it before.

In:  the vectors that a model version has just made of a day, and the day's published object. Out:
that object with a row more for each user whose vector or score changed or is new, by the rules of
behavior features (features/revisions.py). A score may change alone: a profile reads features too.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.base.clock import now
from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file
from contracts.lake.reading import read_metadata, read_schema
from contracts.lake.schemas import BUILT_FROM, READ_WITH
from features.daily import open_engine, read_days, read_object, stream
from features.revisions import add_revisions
from features.store.view_specs import EMBEDDINGS

if TYPE_CHECKING:
    import ibis.expr.types as ir

# Of the length of a vector or score: less is the rounding of another batch of users.
ROUNDING = 1e-5


def publish_embeddings(lake: Lake, version: str, day: dt.date, fresh: Path) -> int:
    """Publishes the vectors of a day beside those that were published of it before.

    - A user whose vector or score changed by more than rounding gets one more row, `created` now,
      and so does a user without a row in a published day.
    - A user who has no event any more keeps the rows that there are.

    Args:
      lake: where `user_embeddings/<version>` lies.
      version: the model version.
      day: the as-of day of all rows.
      fresh: a staged local file of `embeddings_schema`, sorted by user, with one row a user and
        `created` as if it was known in time. It is gone afterwards.

    Returns:
      The rows of the published object.

    Raises:
      FootpathError: the published object has other columns.
    """
    table = f"{EMBEDDINGS}/{version}"
    target = lake.day(table, day)
    with lake.locked(EMBEDDINGS):  # two runs of one day: the second adds to what the first has made
        if target.exists():
            check_columns(target, fresh)
            _add_published(lake, table, day, fresh)
        publish_file(fresh, target)
    return read_metadata(target).num_rows


def check_columns(published: Path, fresh: Path) -> None:
    """Checks that a version's vectors have the columns that were published of it."""
    was, now_has = read_schema(published), read_schema(fresh)
    if was != now_has:
        other = sorted({field.name for field in {*was} ^ {*now_has}})
        raise FootpathError(
            f"{published} has other columns than this model now gives ({', '.join(other)}): "
            "remove that folder and embed its days again"
        )


def _add_published(lake: Lake, table: str, day: dt.date, fresh: Path) -> None:
    """Replaces a file of fresh rows by one that holds the published rows, and what is new."""
    import ibis

    written, schema = now(), read_schema(fresh)
    notes = notes_of(fresh)
    with lake.staging() as folder:
        merged = folder / fresh.name
        with open_engine() as engine, pq.ParquetWriter(merged, schema, compression="zstd") as out:
            rows = read_object(engine, fresh).mutate(
                day=ibis.literal(day), written_at=ibis.literal(written, "timestamp('UTC', 6)")
            )
            published = read_days(engine, lake, table, schema, [day])
            rows = add_revisions(rows, published, [day], written, _rows_differ)
            for batch in stream(engine, rows, ["user_id", "event_timestamp", "created"]):
                part = pa.Table.from_batches([batch]).select(schema.names)
                out.write_table(part.cast(schema))
            out.add_key_value_metadata(notes)
        publish_file(merged, fresh)


def notes_of(path: Path) -> dict[bytes, bytes]:
    """What the footer of an object of embeddings says of how it was made."""
    said = read_metadata(path).metadata or {}
    return {key: said[key] for key in (BUILT_FROM, READ_WITH) if key in said}


def _rows_differ(both: "ir.Table", _: list[str]) -> "ir.BooleanValue":
    """Whether a vector or a score is another than the published one, by more than rounding."""
    import ibis

    @ibis.udf.scalar.builtin(signature=(("array<float32>", "array<float32>"), "float64"))
    def list_distance(a, b): ...

    @ibis.udf.scalar.builtin(signature=(("array<float32>", "array<float32>"), "float64"))
    def list_inner_product(a, b): ...

    def apart(name: str) -> "ir.BooleanValue":
        new, old = both[name], both[f"old_{name}"]
        length = list_inner_product(new, new).sqrt()
        far = (new != old) & (list_distance(new, old) > ROUNDING * length)
        return far.fill_null(False) | (new.isnull() != old.isnull())

    differ = apart("embedding")
    if "scores" in both.columns:
        differ |= apart("scores")
    if "score" in both.columns:
        new, old = both.score, both.old_score
        far = (new - old).abs() > ROUNDING * ibis.greatest(new.abs(), old.abs())
        differ |= far.fill_null(False) | (new.isnull() != old.isnull())
    return differ
