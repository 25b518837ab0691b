"""A late rebuild of feature rows: what changed is added, what was known stays.

In:  freshly computed rows of some days, and those days' published objects. Out: all rows that the
objects shall hold. A training set for the past filters by `created` and so sees what was known
then; the online store takes the latest. Where nothing changed, the result is what was published,
to the byte.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

import datetime as dt
import functools
import operator
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.reading import read_schema

if TYPE_CHECKING:
    import ibis.expr.types as ir


def check_published(lake: Lake, table: str, days: list[dt.date], schema: pa.Schema) -> None:
    """Checks that a table's published days have the columns that are about to be added to.

    Raises:
      FootpathError: one has others.
    """
    published = set(lake.days(table))
    for path in (lake.day(table, day) for day in days if day in published):
        found = read_schema(path)
        if _nulls(found) != _nulls(schema) or found.names != schema.names:
            more, less = set(found.names) - set(schema.names), set(schema.names) - set(found.names)
            changed = _nulls(found).items() ^ _nulls(schema).items()
            other = sorted({name for name, _ in changed} - more - less)
            raise FootpathError(
                f"{path} has other columns than the data set now declares "
                f"(in excess: {sorted(more) or 'none'}, missing: {sorted(less) or 'none'}, "
                f"null where they were 0, or the other way: {other or 'none'}): "
                f"remove the folder {lake.table(table)} and rebuild all its days"
            )


def _nulls(schema: pa.Schema) -> dict[str, bool]:
    """Column -> whether it may hold nulls."""
    return {column.name: column.nullable for column in schema}


def merge_revisions(
    fresh: "ir.Table",
    published: "ir.Table",
    nothing: Mapping[str, int | None],
    days: list[dt.date],
    written: dt.datetime,
) -> "ir.Table":
    """Adds to the published rows what the fresh ones say anew.

    - A user whose values differ from the latest published gets one more row, `created` now.
    - A user without a row gets the first one. Where the day is published already, `created` is now
      too, for nobody knew of it before.
    - A user who is gone from a published day gets a row of nothing, `created` now.

    Args:
      fresh: day, user_id, event_timestamp, created (as if built in time), written_at, then values.
      published: the same columns, all revisions.
      nothing: value column -> what it holds for a user without events and sessions.
      days: those whose object is published, be it empty.
      written: the present. `created` is at least this and after the row that it corrects.

    Returns:
      The same columns: every published row, and the added ones.
    """
    import ibis

    present = ibis.literal(written, "timestamp('UTC', 6)")
    latest = _latest(published)
    latest = latest.mutate(
        corrected=ibis.greatest(present, latest.created + ibis.interval(microseconds=1))
    )

    known = latest.select("day", "user_id", "corrected", **{f"old_{n}": latest[n] for n in nothing})
    both = fresh.left_join(known, ["day", "user_id"])
    late = both.day.isin(days).ifelse(ibis.greatest(present, both.created), both.created)
    changed = _any(~both[name].identical_to(both[f"old_{name}"]) for name in nothing)
    added = both.mutate(created=both.corrected.coalesce(late))
    added = added.filter(both.corrected.isnull() | changed)

    gone = latest.anti_join(fresh, ["day", "user_id"])
    empty = {name: ibis.literal(value, gone[name].type()) for name, value in nothing.items()}
    gone = gone.filter(_any(~gone[name].identical_to(value) for name, value in empty.items()))
    gone = gone.mutate(
        created=gone.corrected, written_at=present.cast(gone.written_at.type()), **empty
    )
    return ibis.union(*(rows.select(fresh.columns) for rows in (published, added, gone)))


def _latest(published: "ir.Table") -> "ir.Table":
    """Returns, for each user and day, the row that was created last."""
    import ibis

    newest_first = ibis.window(
        group_by=[published.day, published.user_id], order_by=ibis.desc(published.created)
    )
    ranked = published.mutate(place=ibis.row_number().over(newest_first))
    return ranked.filter(ranked.place == 0).drop("place")


def _any(conditions: "Iterable[ir.BooleanValue]") -> "ir.BooleanValue":
    return functools.reduce(operator.or_, conditions)
