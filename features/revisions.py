"""Revisions of behavior features and embeddings: what changed is added, what was known stays.

In:  freshly computed rows of some days, and those days' published objects. Out: all rows that the
objects shall hold. A training set for the past filters by `created` and so sees what was known
then; the online store takes the latest. Where nothing changed, the result is what was published,
to the byte.

Rows are compared in what is computed now. A published row is null in a feature that came later, so
that a value there is news; what is not computed any more is no news.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

import datetime as dt
import functools
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from features.daily import with_columns

if TYPE_CHECKING:
    import ibis.expr.types as ir


CLOCKS = ("day", "event_timestamp", "created", "written_at")


def values_differ(both: "ir.Table", values: list[str]) -> "ir.BooleanValue":
    """Whether any value of a row is another than in the column `old_<value>`."""
    return _any(~both[name].identical_to(both[f"old_{name}"]) for name in values)


def add_revisions(
    fresh: "ir.Table",
    published: "ir.Table",
    days: list[dt.date],
    written: dt.datetime,
    differ: "Callable[[ir.Table, list[str]], ir.BooleanValue]" = values_differ,
    key: str = "user_id",
) -> "ir.Table":
    """Adds to the published rows what the fresh ones say anew.

    - A user whose values differ from the latest published gets one more row, `created` now.
    - A user without a row gets the first one. Where the day is published already, `created` is now
      too, for nobody knew of it before.
    - A user who is gone from a published day keeps the rows that there are.

    Args:
      fresh: day, user_id, event_timestamp, created (as if built in time), written_at, then values.
      published: the same columns, and maybe more, all revisions.
      days: those whose object is published, be it empty.
      written: the present. `created` is at least this and after the row that it corrects.
      differ: whether a row has other values than the latest published.
      key: the column of the user; or that of the item, of which the same holds.

    Returns:
      The columns of `published`: every published row, and the added ones.
    """
    import ibis

    values = [name for name in fresh.columns if name not in (key, *CLOCKS)]
    latest = _latest(published, written, key)
    known = latest.select("day", key, "corrected", **{f"old_{n}": latest[n] for n in values})
    both = fresh.left_join(known, ["day", key])
    late = ibis.greatest(_instant(written), both.created)
    first = both.day.isin(days).ifelse(late, both.created)
    added = both.mutate(created=both.corrected.coalesce(first))
    added = added.filter(both.corrected.isnull() | differ(both, values))
    return published.union(with_columns(added, published.schema()).select(published.columns))


def rows_of_nothing(
    fresh: "ir.Table",
    published: "ir.Table",
    nothing: Mapping[str, int | None],
    written: dt.datetime,
    key: str = "user_id",
) -> "ir.Table":
    """One row of nothing, `created` now, of each user who is gone from a published day.

    Who has a row of nothing already gets no more. What is not computed any more is null in it.

    Args:
      fresh: as of `add_revisions`.
      published: as of `add_revisions`.
      nothing: value column -> what it holds for a user without events and sessions.
      written: the present.
      key: as of `add_revisions`.
    """
    import ibis

    gone = _latest(published, written, key).anti_join(fresh, ["day", key])
    empty = {name: ibis.literal(value, gone[name].type()) for name, value in nothing.items()}
    gone = gone.filter(_any(~gone[name].identical_to(value) for name, value in empty.items()))
    present = _instant(written).cast(gone.written_at.type())
    gone = gone.mutate(created=gone.corrected, written_at=present, **empty)
    return with_columns(gone.select(fresh.columns), published.schema()).select(published.columns)


def _latest(published: "ir.Table", written: dt.datetime, key: str) -> "ir.Table":
    """Each one's row of a day that was created last, and when one after it is `corrected`."""
    import ibis

    newest_first = ibis.window(
        group_by=[published.day, published[key]], order_by=ibis.desc(published.created)
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
