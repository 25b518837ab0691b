"""What a sum over days cannot tell of a window: different ones, spread, pauses of sessions.

In:  the state of some users, or items, and their pairs by day. Out: how each such measure changes
from day to day; a window's value is the running sum.

An interval counts from day `n` on, until `w` days after day `base` or until day `until` takes its
place: an item from each of its days until its next one, a pause from the later session until the
earlier one leaves the window.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from features.behavior.measures import (
    DISTINCT,
    ENTROPY_UNITS,
    PAUSES,
    Measure,
    Span,
    action_of,
    asked_windows,
    stem_of,
)

if TYPE_CHECKING:
    import ibis.expr.types as ir


def changes_of(
    activity: "ir.Table", pairs: "ir.Table | None", needs: Iterable[Measure], span: Span
) -> "ir.Table | None":
    """How the measures that are sums of intervals change from day to day.

    All that changed before day span.first stands on that day.

    Args:
      activity: the state; with the edges and pauses of sessions if gaps are asked for.
      pairs: entity_id, n, other_id, category, `pairs` (events) and `pairs_of_<a>`.
      needs: what to compute.
      span: the days of the result.

    Returns:
      entity_id, n, and what to add on that day to `<measure>_<w>`; none if there is none such.
    """
    import ibis

    distinct, spread = asked_windows(needs, DISTINCT), asked_windows(needs, ["spread"])
    pauses = asked_windows(needs, PAUSES)
    parts = []
    if pairs is not None:
        parts += [
            _steps(_distinct(pairs, name, span), {name: ws}, span) for name, ws in distinct.items()
        ]
        parts += [_spread(pairs, w, span) for w in spread.get("spread", [])]
    if pauses:
        parts += [_steps(intervals, pauses, span) for intervals in pauses_of(activity)]
    if not parts:
        return None
    windows = distinct | spread | pauses
    names = [f"{name}_{w}" for name, ws in windows.items() for w in ws]
    zero = ibis.literal(0, "int64")
    parts = [
        part.select("entity_id", "n", **{n: part[n] if n in part.columns else zero for n in names})
        for part in parts
    ]
    changes = ibis.union(*parts) if len(parts) > 1 else parts[0]
    return folded(changes.filter(changes.n <= span.last), span.first)


def folded(changes: "ir.Table", first: int) -> "ir.Table":
    """Sums changes by user, or item, and day, with all that came before day `first` on it."""
    import ibis

    changes = changes.mutate(n=ibis.greatest(changes.n, first))
    names = [name for name in changes.columns if name not in ("entity_id", "n")]
    return changes.group_by("entity_id", "n").agg(
        **{name: changes[name].sum().cast("int64") for name in names}
    )


def _steps(intervals: "ir.Table", windows: dict[str, list[int]], span: Span) -> "ir.Table":
    """Turns intervals (entity_id, n, base, until, amounts) into what enters and leaves windows."""
    import ibis

    windows = {name: ws for name, ws in windows.items() if name in intervals.columns}
    until = intervals["until"].fill_null(span.last + span.longest + 1)
    lengths = sorted({w for ws in windows.values() for w in ws})
    # Each comes once as it enters (step 0), and once as it leaves each window.
    steps = intervals.mutate(until=until, step=ibis.array([0, *lengths]).unnest())
    leaves = ibis.greatest(steps.n, ibis.least(steps["until"], steps.base + steps.step))
    changes = {
        f"{name}_{w}": ibis.cases(
            (steps.step == 0, steps[name]), (steps.step == w, -steps[name]), else_=0
        ).cast("int64")
        for name, ws in windows.items()
        for w in ws
    }
    return steps.select("entity_id", n=(steps.step == 0).ifelse(steps.n, leaves), **changes)


def _distinct(pairs: "ir.Table", name: str, span: Span) -> "ir.Table":
    """The intervals in which a key is among the different ones of a user, or item.

    An occurrence counts from its day on until the next occurrence takes over. Of those up to the
    first day of the span, the last is enough.
    """
    import ibis

    key, action = DISTINCT[stem_of(name)], action_of(name)
    seen = pairs.filter(pairs[key].notnull())
    if action:
        seen = seen.filter(seen[f"pairs_of_{action}"] > 0)
    seen = seen.mutate(told_apart=ibis.greatest(seen.n, span.first))
    seen = seen.group_by("entity_id", key, "told_apart").agg(n=seen.n.max())
    in_order = ibis.window(group_by=[seen.entity_id, seen[key]], order_by=seen.n)
    seen = seen.mutate(until=seen.n.lead().over(in_order))
    seen = seen.group_by("entity_id", "n", "until").agg(**{name: seen.count()})
    return seen.mutate(base=seen.n)


def _spread(pairs: "ir.Table", window: int, span: Span) -> "ir.Table":
    """The changes of the sum over categories of count * ln(count) in a window."""
    import ibis

    name = f"spread_{window}"
    pairs = pairs.filter(pairs.category.notnull())
    counts = pairs.group_by("entity_id", "category", "n").agg(
        change=pairs["pairs"].sum().cast("int64")
    )
    # Each count comes once as it enters (step 0), and once, taken away, as it leaves.
    steps = counts.mutate(step=ibis.array([0, window]).unnest())
    steps = steps.mutate(
        n=ibis.greatest(steps.n + steps.step, span.first),
        change=(steps.step == 0).ifelse(steps.change, -steps.change),
    )
    steps = steps.group_by("entity_id", "category", "n").agg(
        change=steps.change.sum().cast("int64")
    )
    so_far = ibis.window(group_by=[steps.entity_id, steps.category], order_by=steps.n, following=0)
    steps = steps.mutate(total=steps.change.sum().over(so_far).cast("int64"))
    change = scaled(steps.total) - scaled(steps.total - steps.change)
    return steps.select("entity_id", "n", **{name: change})


def scaled(count: "ir.IntegerColumn") -> "ir.IntegerColumn":
    """Returns count * ln(count) as an integer; 0 for a count of 0."""
    import ibis

    return (count * ibis.greatest(count, 1).ln() * ENTROPY_UNITS).round().cast("int64")


def pauses_of_day(activity: "ir.Table", needs: Iterable[Measure], day: int) -> "ir.Table | None":
    """Returns entity_id and the pauses in the windows that end with one day; none if not asked."""
    import ibis

    gaps = asked_windows(needs, PAUSES)
    if not gaps:
        return None
    zero = ibis.literal(0, "int64")
    parts = []
    for rows in pauses_of(activity):
        inside = (rows.n <= day) & (rows["until"].isnull() | (rows["until"] > day))
        amounts = {
            f"{name}_{w}": (inside & (rows.base + w > day)).ifelse(rows[name], 0).cast("int64")
            if name in rows.columns
            else zero
            for name, ws in gaps.items()
            for w in ws
        }
        parts.append(rows.select("entity_id", **amounts))
    rows = ibis.union(*parts)
    names = [name for name in rows.columns if name != "entity_id"]
    return rows.group_by("entity_id").agg(**{n: rows[n].sum().cast("int64") for n in names})


def pauses_of(activity: "ir.Table") -> "list[ir.Table]":
    """The intervals of the pauses between sessions, both of which are in the window.

    A pause within a day is in every window that has the day; one across days leaves with the
    earlier of its sessions. `gap_last` is that before the last session, until the next comes.
    """
    import ibis

    days = activity.filter(activity.last_end.notnull())
    in_order = ibis.window(group_by=days.entity_id, order_by=days.n)
    days = days.mutate(
        before=days.n.lag().over(in_order),
        next_day=days.n.lead().over(in_order),
        pause=whole_pause(days.first_start, days.last_end.lag().over(in_order)),
    )
    never = ibis.null("int64")
    inside = days.filter(days.day_gaps > 0).select(
        "entity_id",
        "n",
        base="n",
        until=never,
        gaps="day_gaps",
        gap_seconds="day_gap_seconds",
        gap_squares="day_gap_squares",
    )
    across = days.filter(days.before.notnull()).select(
        "entity_id",
        "n",
        base="before",
        until=never,
        gaps=ibis.literal(1, "int64"),
        gap_seconds=days.pause,
        gap_squares=days.pause * days.pause,
    )
    last = days.mutate(
        base=days.day_gap_last.notnull().ifelse(days.n, days.before),
        gap_last=days.day_gap_last.coalesce(days.pause),
    ).filter(lambda rows: rows.gap_last.notnull())
    return [inside, across, last.select("entity_id", "n", "base", "gap_last", until="next_day")]


def with_pauses(sessions: "ir.Table", names: Collection[str]) -> "ir.Table":
    """Sessions of users with `seconds`, and the `gap` to those before, if they closed that day too.

    Sessions of the source may overlap: then there is no pause between them, a gap of 0.
    """
    import ibis

    seconds = sessions.duration_seconds.cast("decimal(18, 6)")
    sessions = sessions.mutate(entity_id=sessions.user_id, seconds=seconds)
    if "day_gaps" not in names:
        return sessions
    key = [sessions.day, sessions.entity_id]
    order = [sessions.started_at, sessions.session_id]
    in_order = ibis.window(group_by=key, order_by=order)
    so_far = ibis.window(group_by=key, order_by=order, following=0)
    sessions = sessions.mutate(
        nth=ibis.row_number().over(in_order), latest=sessions.ended_at.max().over(so_far)
    )
    by_nth = ibis.window(group_by=[sessions.day, sessions.entity_id], order_by=sessions.nth)
    sessions = sessions.mutate(before=sessions.latest.lag().over(by_nth))
    return sessions.mutate(gap=whole_pause(sessions.started_at, sessions.before))


def whole_seconds(later: "ir.Value", earlier: "ir.Value") -> "ir.Value":
    """Returns whole seconds from one instant to another, cut off: engines agree on integers."""
    return later.delta(earlier, unit="microsecond") // 1_000_000


def whole_pause(start: "ir.Value", end: "ir.Value") -> "ir.Value":
    """Whole seconds from the end of something to the start of another; 0 where they overlap."""
    pause = whole_seconds(start, end)
    return (pause < 0).ifelse(0, pause)
