"""From the daily state and pairs of users and items to windows: Ibis expressions only.

In:  `activity`, the state of some users or items (`daily_state.py`), and `pairs`, what each had to
do with by day. Out: one row a user, or item, and day with every measure that is asked for
(`measures.py`) over the windows that end with the day. A range of days is one pass: windows slide
over the daily sums.

Days are counted as integers `n` (days since 1970), so that a window is a range of integers and a
day of 23 hours is a day. Every sum is one of integers or decimals: its value does not depend on
the order of rows, nor on which days are built together.

Sums and maxima are window frames over days; what a frame cannot tell is the running sum of what
enters and leaves (`intervals.py`). For a day alone nothing slides.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from features.behavior.measures import Fold, Measure, Span, is_interval

if TYPE_CHECKING:
    import ibis.expr.types as ir

Folds = Mapping[str, Fold]  # column of the state -> how days are put together; others are added up


def windows_of_day(
    activity: "ir.Table",
    found: "list[ir.Table]",
    needs: Iterable[Measure],
    folds: Folds,
    span: Span,
) -> "ir.Table":
    """Makes the windows that end with one day: plain sums by user or item, for nothing slides.

    Args:
      activity: as for `windows_of_range`.
      found: what is there of each already: `distinct_of_day`, `pauses_of_day`.
      needs: what to compute.
      folds: how columns of the state are put together.
      span: the day.

    Returns:
      What `windows_of_range` returns.
    """
    import ibis

    seen = activity.filter(activity.n >= span.last - span.longest, activity.n <= span.last)
    joined = {name for part in found for name in part.columns} - {"entity_id"}
    totals = {}
    for name, w in sorted(needs):
        if f"{name}_{w}" not in joined:
            fold = folds.get(name, "sum")
            is_in = seen.n > span.last - w
            if fold == "last":
                whole = seen[name].argmax(seen.n, where=is_in)
            else:
                whole = getattr(seen[name], fold)(where=is_in)
            whole = whole.fill_null(0) if fold == "sum" else whole
            totals[f"{name}_{w}"] = whole.cast(seen[name].type())
    rows = seen.group_by("entity_id").agg(seen_days=seen.count(), **totals)
    for part in found:
        rows = rows.left_join(part, "entity_id").drop("entity_id_right")
    return rows.select(
        "entity_id",
        *totals,
        **{name: rows[name].fill_null(0) for name in sorted(joined)},
        n=ibis.literal(span.last, "int64"),
    )


def windows_of_range(
    activity: "ir.Table",
    changes: "ir.Table | None",
    needs: Iterable[Measure],
    folds: Folds,
    span: Span,
) -> "ir.Table":
    """Makes the windows that end with each day of a range.

    Args:
      activity: entity_id, n and the columns of the state, at least from span.longest days before.
      changes: from `changes_of`; none if no measure needs them.
      needs: what to compute.
      folds: how columns of the state are put together.
      span: the days of the result.

    Returns:
      entity_id, n, and `<measure>_<w>` for every one. A user, or item, has a row on every day on
      which the longest window is not empty, and one after.
    """
    wanted = sorted(needs)
    daily = [(name, w) for name, w in wanted if not is_interval(name)]
    other = [f"{name}_{w}" for name, w in wanted if is_interval(name)]
    rows = _rows(activity, folds, span)
    if changes is not None:
        rows = rows.left_join(changes, ["entity_id", "n"])
    return _sliding(rows, daily, other, folds, span)


def _sliding(
    rows: "ir.Table", daily: list[Measure], other: list[str], folds: Folds, span: Span
) -> "ir.Table":
    import ibis

    # One frame a window, shared by all its measures; the day itself needs none.
    frames = {
        w: ibis.range_window(group_by="entity_id", order_by="n", preceding=w - 1, following=0)
        for _, w in daily
    }
    so_far = ibis.window(group_by="entity_id", order_by="n", following=0)
    totals = {}
    for name, w in daily:
        column = rows[name]
        if w > 1:
            fold = folds.get(name, "sum")
            whole = column.argmax(rows.active_n) if fold == "last" else getattr(column, fold)()
            column = whole.over(frames[w])
        totals[f"{name}_{w}"] = column.cast(rows[name].type())
    totals |= {name: rows[name].fill_null(0).sum().over(so_far).cast("int64") for name in other}
    result = rows.select("entity_id", "n", **totals)
    return result.filter(result.n >= span.first)


def _rows(activity: "ir.Table", folds: Folds, span: Span) -> "ir.Table":
    """The activity of every day that a window of the span can see, and empty rows.

    From a day with activity on, a user has a row on each day of the result until the longest
    window is empty again, and one more; so has an item. `active_n` is the day where there was
    activity, and null in an empty row.
    """
    import ibis

    seen = activity.filter(activity.n >= span.first - span.longest, activity.n <= span.last)
    in_order = ibis.window(group_by=seen.entity_id, order_by=seen.n)
    # Columns of their own, for Spark unnests nothing that holds a window function.
    seen = seen.mutate(following=seen.n.lead().over(in_order))
    stop = ibis.least(seen.following, seen.n + span.longest + 1, span.last + 1)
    quiet = ibis.range(ibis.greatest(seen.n + 1, span.first), stop)
    seen = seen.mutate(day=ibis.array([seen.n]).concat(quiet).unnest())
    is_active = seen.day == seen.n
    measures = [name for name in activity.columns if name not in ("entity_id", "n")]
    empty = {
        name: ibis.literal(0) if folds.get(name, "sum") == "sum" else ibis.null()
        for name in measures
    }
    return seen.select(
        "entity_id",
        n=seen.day,
        active_n=is_active.ifelse(seen.n, ibis.null("int64")),
        **{
            name: is_active.ifelse(seen[name], empty[name].cast(seen[name].type()))
            for name in measures
        },
    )
