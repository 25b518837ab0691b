"""From the daily state and (user, item) pairs to windows: Ibis expressions only.

In:  `activity`, the state of some users (`behavior_state.py`), and `pairs`, their items by day.
Out: one row a user and day with every measure that is asked for (`behavior_terms.py`) over the
windows that end with the day. A range of days is one pass: windows slide over the daily sums.

Days are counted as integers `n` (days since 1970), so that a window is a range of integers and a
day of 23 hours is a day. Every sum is one of integers or decimals: its value does not depend on
the order of rows, nor on which days are built together.

Sums and maxima are window frames over days. What a frame cannot tell (different items, pauses
between sessions) is an interval: it counts from day `n` on, until `w` days after day `base` or
until day `until` takes its place. Such a measure is the running sum of what enters and leaves.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from features.behavior_state import is_sum, whole_seconds
from features.behavior_terms import ENTROPY_UNITS, Measure

if TYPE_CHECKING:
    import ibis.expr.types as ir

# What is not a sum or maximum of days.
INTERVALS = ("items", "categories", "spread", "gaps", "gap_seconds", "gap_squares", "gap_last")


@dataclass(frozen=True)
class Span:
    """The days of a result, as integers, and how far back its windows see."""

    first: int
    last: int
    longest: int

    @property
    def is_day(self) -> bool:
        """Whether it is a day alone: then nothing slides, and sums by user are enough."""
        return self.first == self.last


def is_interval(measure: str) -> bool:
    """Tells whether a measure is the sum of intervals."""
    return measure.partition("_of_")[0] in INTERVALS


def windows_of(
    activity: "ir.Table", changes: "ir.Table | None", needs: Iterable[Measure], span: Span
) -> "ir.Table":
    """Makes each measure of its windows.

    Args:
      activity: user_id, n and the columns of the state, at least from span.longest days before.
      changes: from `changes_of`; none if no measure needs them.
      needs: what to compute.
      span: the days of the result.

    Returns:
      user_id, n, and `<measure>_<w>` for every one. A user has a row on every day on which the
      longest window is not empty, and one after.
    """
    wanted = sorted(needs)
    daily = [(name, w) for name, w in wanted if not is_interval(name)]
    other = [f"{name}_{w}" for name, w in wanted if is_interval(name)]
    rows = _one_day(activity, daily, span) if span.is_day else _rows(activity, span)
    if changes is not None:
        changes = folded(changes.filter(changes.n <= span.last), span.first)
        rows = rows.left_join(changes, ["user_id", "n"])
    if span.is_day:
        names = [f"{name}_{w}" for name, w in daily]
        return rows.select(
            "user_id", "n", *names, **{name: rows[name].fill_null(0) for name in other}
        )
    return _sliding(rows, daily, other, span)


def _one_day(activity: "ir.Table", daily: list[Measure], span: Span) -> "ir.Table":
    import ibis

    seen = activity.filter(activity.n >= span.last - span.longest, activity.n <= span.last)
    totals = {}
    for name, w in daily:
        column, inside = seen[name], seen.n > span.last - w
        total = column.sum(where=inside).fill_null(0) if is_sum(name) else column.max(where=inside)
        totals[f"{name}_{w}"] = total.cast(column.type())
    rows = seen.group_by("user_id").agg(seen_days=seen.count(), **totals)
    return rows.mutate(n=ibis.literal(span.last, "int64"))


def _sliding(rows: "ir.Table", daily: list[Measure], other: list[str], span: Span) -> "ir.Table":
    import ibis

    # One frame a window, shared by all its measures; the day itself needs none.
    frames = {
        w: ibis.range_window(group_by="user_id", order_by="n", preceding=w - 1, following=0)
        for _, w in daily
    }
    so_far = ibis.window(group_by="user_id", order_by="n", following=0)
    totals = {}
    for name, w in daily:
        column = rows[name]
        if w > 1:
            column = (column.sum() if is_sum(name) else column.max()).over(frames[w])
        totals[f"{name}_{w}"] = column.cast(rows[name].type())
    totals |= {name: rows[name].fill_null(0).sum().over(so_far).cast("int64") for name in other}
    result = rows.select("user_id", "n", **totals)
    return result.filter(result.n >= span.first)


def _rows(activity: "ir.Table", span: Span) -> "ir.Table":
    """Returns the activity of every day that a window of the span can see, and empty rows.

    From a day with activity on, a user has a row on each day of the result until the longest
    window is empty again, and one more.
    """
    import ibis

    seen = activity.filter(activity.n >= span.first - span.longest, activity.n <= span.last)
    following = seen.n.lead().over(ibis.window(group_by=seen.user_id, order_by=seen.n))
    stop = ibis.least(following, seen.n + span.longest + 1, span.last + 1)
    quiet = ibis.range(ibis.greatest(seen.n + 1, span.first), stop)
    seen = seen.mutate(day=ibis.array([seen.n]).concat(quiet).unnest())
    is_active = seen.day == seen.n
    measures = [name for name in activity.columns if name not in ("user_id", "n")]
    empty = {name: ibis.literal(0) if is_sum(name) else ibis.null() for name in measures}
    return seen.select(
        "user_id",
        n=seen.day,
        **{
            name: is_active.ifelse(seen[name], empty[name].cast(seen[name].type()))
            for name in measures
        },
    )


def changes_of(
    activity: "ir.Table", pairs: "ir.Table | None", needs: Iterable[Measure], span: Span
) -> "ir.Table | None":
    """Returns how the measures that are sums of intervals change from day to day.

    All that changed before day span.first stands on that day.

    Args:
      activity: the state; with the edges and pauses of sessions if gaps are asked for.
      pairs: user_id, n, item_id, category, `pairs` (events) and `pairs_of_<a>`.
      needs: what to compute.
      span: the days of the result.

    Returns:
      user_id, n, and what to add on that day to `<measure>_<w>`; none if there is no such measure.
    """
    import ibis

    windows: dict[str, list[int]] = {}
    for name, w in sorted(needs):
        if is_interval(name):
            windows.setdefault(name, []).append(w)
    parts = []
    if pairs is not None:
        parts += [
            _steps(_distinct(pairs, name, span), {name: ws}, span)
            for name, ws in windows.items()
            if name.startswith(("items", "categories"))
        ]
        parts += [_spread(pairs, w, span) for w in windows.get("spread", [])]
    if gaps := {name: ws for name, ws in windows.items() if name.startswith("gap")}:
        parts += [_steps(intervals, gaps, span) for intervals in _gaps(activity)]
    if not parts:
        return None
    names = [f"{name}_{w}" for name, ws in windows.items() for w in ws]
    zero = ibis.literal(0, "int64")
    parts = [
        part.select("user_id", "n", **{n: part[n] if n in part.columns else zero for n in names})
        for part in parts
    ]
    changes = ibis.union(*parts) if len(parts) > 1 else parts[0]
    return folded(changes.filter(changes.n <= span.last), span.first)


def folded(changes: "ir.Table", first: int) -> "ir.Table":
    """Sums changes by user and day, with all that came before day `first` on it."""
    import ibis

    changes = changes.mutate(n=ibis.greatest(changes.n, first))
    names = [name for name in changes.columns if name not in ("user_id", "n")]
    return changes.group_by("user_id", "n").agg(
        **{name: changes[name].sum().cast("int64") for name in names}
    )


def _steps(intervals: "ir.Table", windows: dict[str, list[int]], span: Span) -> "ir.Table":
    """Turns intervals (user_id, n, base, until, amounts) into what enters and leaves windows."""
    import ibis

    windows = {name: ws for name, ws in windows.items() if name in intervals.columns}
    until = intervals["until"].fill_null(span.last + span.longest + 1)
    if span.is_day:
        day, inside = span.last, (intervals.n <= span.last) & (until > span.last)
        return (
            intervals.group_by("user_id")
            .agg(
                n=intervals.n.max(),
                **{
                    f"{name}_{w}": (inside & (intervals.base + w > day))
                    .ifelse(intervals[name], 0)
                    .sum()
                    .cast("int64")
                    for name, ws in windows.items()
                    for w in ws
                },
            )
            .mutate(n=ibis.literal(day, "int64"))
        )
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
    return steps.select("user_id", n=(steps.step == 0).ifelse(steps.n, leaves), **changes)


def _distinct(pairs: "ir.Table", name: str, span: Span) -> "ir.Table":
    """Returns the intervals in which a key is among the different ones of a user.

    An occurrence counts from its day on until the next occurrence takes over. Of those up to the
    first day of the span, the last is enough.
    """
    import ibis

    what, _, action = name.partition("_of_")
    key = {"items": "item_id", "categories": "category"}[what]
    seen = pairs.filter(pairs[key].notnull())
    if action:
        seen = seen.filter(seen[f"pairs_of_{action}"] > 0)
    if span.is_day:
        seen = seen.group_by("user_id", key).agg(n=seen.n.max())
        seen = seen.mutate(until=ibis.null("int64"))
    else:
        seen = seen.mutate(told_apart=ibis.greatest(seen.n, span.first))
        seen = seen.group_by("user_id", key, "told_apart").agg(n=seen.n.max())
        in_order = ibis.window(group_by=[seen.user_id, seen[key]], order_by=seen.n)
        seen = seen.mutate(until=seen.n.lead().over(in_order))
    seen = seen.group_by("user_id", "n", "until").agg(**{name: seen.count()})
    return seen.mutate(base=seen.n)


def _spread(pairs: "ir.Table", window: int, span: Span) -> "ir.Table":
    """Returns the changes of the sum over categories of count * ln(count) in a window."""
    import ibis

    name = f"spread_{window}"
    if span.is_day:
        inside = pairs.filter(pairs.n > span.last - window, pairs.n <= span.last)
        counts = inside.group_by("user_id", "category").agg(
            total=inside["pairs"].sum().cast("int64")
        )
        scaled = _scaled(counts.total.cast("int64"))
        spread = counts.group_by("user_id").agg(**{name: scaled.sum().cast("int64")})
        return spread.mutate(n=ibis.literal(span.last, "int64"))
    counts = pairs.group_by("user_id", "category", "n").agg(
        change=pairs["pairs"].sum().cast("int64")
    )
    # Each count comes once as it enters (step 0), and once, taken away, as it leaves.
    steps = counts.mutate(step=ibis.array([0, window]).unnest())
    steps = steps.mutate(
        n=ibis.greatest(steps.n + steps.step, span.first),
        change=(steps.step == 0).ifelse(steps.change, -steps.change),
    )
    steps = steps.group_by("user_id", "category", "n").agg(change=steps.change.sum().cast("int64"))
    so_far = ibis.window(group_by=[steps.user_id, steps.category], order_by=steps.n, following=0)
    steps = steps.mutate(total=steps.change.sum().over(so_far).cast("int64"))
    change = _scaled(steps.total) - _scaled(steps.total - steps.change)
    return steps.select("user_id", "n", **{name: change})


def _scaled(count: "ir.IntegerColumn") -> "ir.IntegerColumn":
    """Returns count * ln(count) as an integer; 0 for a count of 0."""
    import ibis

    return (count * ibis.greatest(count, 1).ln() * ENTROPY_UNITS).round().cast("int64")


def _gaps(activity: "ir.Table") -> "list[ir.Table]":
    """Returns the intervals of the pauses between sessions, both of which are in the window.

    A pause within a day is in every window that has the day; one across days leaves with the
    earlier of its sessions. `gap_last` is that before the last session, until the next comes.
    """
    import ibis

    days = activity.filter(activity.last_end.notnull())
    in_order = ibis.window(group_by=days.user_id, order_by=days.n)
    days = days.mutate(
        before=days.n.lag().over(in_order),
        next_day=days.n.lead().over(in_order),
        pause=whole_seconds(days.first_start, days.last_end.lag().over(in_order)),
    )
    never = ibis.null("int64")
    inside = days.filter(days.day_gaps > 0).select(
        "user_id",
        "n",
        base="n",
        until=never,
        gaps="day_gaps",
        gap_seconds="day_gap_seconds",
        gap_squares="day_gap_squares",
    )
    across = days.filter(days.before.notnull()).select(
        "user_id",
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
    return [inside, across, last.select("user_id", "n", "base", "gap_last", until="next_day")]
