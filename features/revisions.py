"""Revisions of behavior features and embeddings: what changed is added, what was known stays.

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
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import pyarrow as pa

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.reading import read_schema

if TYPE_CHECKING:
    import ibis.expr.types as ir

CLOCKS = ("day", "user_id", "event_timestamp", "created", "written_at")


def check_published(lake: Lake, table: str, days: list[dt.date], schema: pa.Schema) -> None:
    """Checks that a table's published days have the columns that are about to be added to.

    Raises:
      FootpathError: one has others.
    """
    published = set(lake.days(table))
    for path in (lake.day(table, day) for day in days if day in published):
        if (found := read_schema(path).names) != schema.names:
            more, less = set(found) - set(schema.names), set(schema.names) - set(found)
            raise FootpathError(
                f"{path} has other columns than the data set now declares "
                f"(in excess: {sorted(more) or 'none'}, missing: {sorted(less) or 'none'}): "
                f"remove the folder {lake.table(table)} and rebuild all its days"
            )


def values_differ(both: "ir.Table", values: list[str]) -> "ir.BooleanValue":
    """Whether any value of a row is another than in the column `old_<value>`."""
    return _any(both[name] != both[f"old_{name}"] for name in values)


def add_revisions(
    fresh: "ir.Table",
    published: "ir.Table",
    days: list[dt.date],
    written: dt.datetime,
    differ: "Callable[[ir.Table, list[str]], ir.BooleanValue]" = values_differ,
) -> "ir.Table":
    """Adds to the published rows what the fresh ones say anew.

    - A user whose values differ from the latest published gets one more row, `created` now.
    - A user without a row gets the first one. Where the day is published already, `created` is now
      too, for nobody knew of it before.
    - A user who is gone from a published day keeps the rows that there are.

    Args:
      fresh: day, user_id, event_timestamp, created (as if built in time), written_at, then values.
      published: the same columns, all revisions.
      days: those whose object is published, be it empty.
      written: the present. `created` is at least this and after the row that it corrects.
      differ: whether a row has other values than the latest published.

    Returns:
      The same columns: every published row, and the added ones.
    """
    import ibis

    values = [name for name in fresh.columns if name not in CLOCKS]
    latest = _latest(published, written)
    known = latest.select("day", "user_id", "corrected", **{f"old_{n}": latest[n] for n in values})
    both = fresh.left_join(known, ["day", "user_id"])
    late = ibis.greatest(_instant(written), both.created)
    first = both.day.isin(days).ifelse(late, both.created)
    added = both.mutate(created=both.corrected.coalesce(first))
    added = added.filter(both.corrected.isnull() | differ(both, values))
    return ibis.union(*(rows.select(fresh.columns) for rows in (published, added)))


def zero_rows(fresh: "ir.Table", published: "ir.Table", written: dt.datetime) -> "ir.Table":
    """One row of zeros, `created` now, of each user who is gone from a published day.

    Args and columns are those of `add_revisions`. Who has zeros already gets no more.
    """
    import ibis

    gone = _latest(published, written).anti_join(fresh, ["day", "user_id"])
    nothing = {
        name: ibis.literal("" if gone[name].type().is_string() else 0, gone[name].type())
        for name in fresh.columns
        if name not in CLOCKS
    }
    gone = gone.filter(_any(gone[name] != value for name, value in nothing.items()))
    present = _instant(written).cast(gone.written_at.type())
    gone = gone.mutate(created=gone.corrected, written_at=present, **nothing)
    return gone.select(fresh.columns)


def _latest(published: "ir.Table", written: dt.datetime) -> "ir.Table":
    """The row of each user and day that was created last, and when one after it is `corrected`."""
    import ibis

    newest_first = ibis.window(
        group_by=[published.day, published.user_id], order_by=ibis.desc(published.created)
    )
    ranked = published.mutate(place=ibis.row_number().over(newest_first))
    latest = ranked.filter(ranked.place == 0).drop("place")
    after = latest.created + ibis.interval(microseconds=1)
    return latest.mutate(corrected=ibis.greatest(_instant(written), after))


def _instant(instant: dt.datetime) -> "ir.Scalar":
    import ibis

    return ibis.literal(instant, "timestamp('UTC', 6)")


def _any(conditions: "Iterable[ir.BooleanValue]") -> "ir.BooleanValue":
    return functools.reduce(operator.or_, conditions)
