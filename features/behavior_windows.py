"""What each user did per day, and what that makes per window: Ibis expressions only.

In:  events (with category) and sessions, each row with its local day. Out: one row a user and day
with sums over the windows that end with the day.

Days are counted as integers `n` (days since 1970), so that a window is a range of integers and a
day of 23 hours is a day. Every sum is one of integers or decimals: its value does not depend on
the order of rows, nor on which days are built together.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

import datetime as dt
from typing import TYPE_CHECKING

from features.behavior_fields import ENTROPY_UNITS

if TYPE_CHECKING:
    import ibis.expr.types as ir

EPOCH = dt.date(1970, 1, 1)


def day_number(day: dt.date) -> int:
    """Returns a day's integer."""
    return (day - EPOCH).days


def with_number(rows: "ir.Table") -> "ir.Table":
    """Adds the integer `n` of each row's `day`."""
    import ibis

    return rows.mutate(n=rows.day.delta(ibis.literal(EPOCH), unit="day"))


def activity_of(
    events: "ir.Table", sessions: "ir.Table", actions: list[str], categories: list[str]
) -> "ir.Table":
    """Returns one row a user and day with an event or a closing session.

    Columns: user_id, n; events, active_days, value_sum, value_count, action_<i>, category_<i>,
    sessions, session_events, session_seconds (all zero where there is none); last_event and
    last_action_<i> (null where there is none). <i> is the place in `actions`, `categories`.
    """
    import ibis

    value = events.value.try_cast("decimal(18, 6)")  # exact; what does not fit counts as nothing
    counts = {"events": events.count(), "value_count": value.count()}
    lasts = {"last_event": events.timestamp.max()}
    for place, action in enumerate(actions):
        is_action = events.action == action
        counts[f"action_{place}"] = is_action.sum()
        lasts[f"last_action_{place}"] = events.timestamp.max(where=is_action)
    for place, category in enumerate(categories):
        counts[f"category_{place}"] = (events.category == category).sum()
    of_events = events.group_by("user_id", "n").agg(**counts, value_sum=value.sum(), **lasts)
    seconds = sessions.duration_seconds.cast("decimal(18, 6)")
    of_sessions = sessions.group_by("user_id", "n").agg(
        sessions=sessions.count(),
        session_events=sessions.length.cast("int64").sum(),
        session_seconds=seconds.sum(),
    )
    both = of_events.outer_join(of_sessions, ["user_id", "n"])
    sums = [*counts, "sessions", "session_events"]
    return both.select(
        user_id=ibis.coalesce(both.user_id, both.user_id_right),
        n=ibis.coalesce(both.n, both.n_right),
        active_days=both.events.notnull().cast("int64"),
        **{name: both[name].fill_null(0).cast("int64") for name in sums},
        **{name: both[name].fill_null(0) for name in ("value_sum", "session_seconds")},
        **{name: both[name] for name in lasts},
    )


def variety_of(
    events: "ir.Table", windows: list[int], first: int, last: int, with_categories: bool
) -> "ir.Table":
    """Returns how each user's variety changes from day to day, from first to last.

    All that changed before day `first` stands on that day, which has a row for every user with an
    event in the longest window before it.

    Returns:
      user_id, n, and what to add on that day to items_<w> and categories_<w>, the number of
      different ones in the window of w days, and to `spread`, the sum over categories of
      count * ln(count) in the longest window, in units of 1 / ENTROPY_UNITS.
    """
    import ibis

    keys = {"items": "item_id"} | ({"categories": "category"} if with_categories else {})
    names = [f"{name}_{w}" for name in keys for w in windows] + ["spread"] * with_categories
    parts = [_distinct(events, key, name, windows, first) for name, key in keys.items()]
    if with_categories:
        parts.append(_spread(events, max(windows), first))
    zero = ibis.literal(0, "int64")
    parts = [
        part.select("user_id", "n", **{n: part[n] if n in part.columns else zero for n in names})
        for part in parts
    ]
    changes = ibis.union(*parts) if len(parts) > 1 else parts[0]
    return folded(changes.filter(changes.n <= last), first)


def folded(changes: "ir.Table", first: int) -> "ir.Table":
    """Sums changes by user and day, with all that came before day `first` on it."""
    import ibis

    changes = changes.mutate(n=ibis.greatest(changes.n, first))
    names = [name for name in changes.columns if name not in ("user_id", "n")]
    return changes.group_by("user_id", "n").agg(
        **{name: changes[name].sum().cast("int64") for name in names}
    )


def _distinct(
    events: "ir.Table", key: str, name: str, windows: list[int], first: int
) -> "ir.Table":
    """Returns the changes of the number of different keys in each window.

    A key is in the window of w days that ends with day D if its last occurrence up to D is less
    than w days back. So an occurrence counts from its day on, until w days later or until the next
    occurrence takes over. Of those up to `first`, the last is enough.
    """
    import ibis

    seen = events.filter(events[key].notnull())
    seen = seen.mutate(told_apart=ibis.greatest(seen.n, first))
    seen = seen.group_by("user_id", key, "told_apart").agg(n=seen.n.max())
    in_order = ibis.window(group_by=[seen.user_id, seen[key]], order_by=seen.n)
    seen = seen.mutate(lasts=(seen.n.lead().over(in_order) - seen.n).fill_null(max(windows)))
    seen = seen.group_by("user_id", "n", "lasts").agg(count=seen.count())
    # Each row comes once as it enters (step 0), and once as it leaves each window.
    steps = seen.mutate(step=ibis.array([0, *windows]).unnest())
    count = steps["count"]
    changes = {
        f"{name}_{w}": ibis.cases((steps.step == 0, count), (steps.step == w, -count), else_=0)
        for w in windows
    }
    return steps.select("user_id", n=steps.n + ibis.least(steps.lasts, steps.step), **changes)


def _spread(events: "ir.Table", window: int, first: int) -> "ir.Table":
    """Returns the changes of the sum over categories of count * ln(count) in a window."""
    import ibis

    counts = events.group_by("user_id", "category", "n").agg(change=events.count())
    # Each count comes once as it enters (step 0), and once, taken away, as it leaves.
    steps = counts.mutate(step=ibis.array([0, window]).unnest())
    steps = steps.mutate(
        n=ibis.greatest(steps.n + steps.step, first),
        change=(steps.step == 0).ifelse(steps.change, -steps.change),
    )
    steps = steps.group_by("user_id", "category", "n").agg(change=steps.change.sum().cast("int64"))
    so_far = ibis.window(group_by=[steps.user_id, steps.category], order_by=steps.n, following=0)
    steps = steps.mutate(total=steps.change.sum().over(so_far).cast("int64"))
    change = _scaled(steps.total) - _scaled(steps.total - steps.change)
    return steps.select("user_id", "n", spread=change)


def _scaled(count: "ir.IntegerColumn") -> "ir.IntegerColumn":
    """Returns count * ln(count) as an integer; 0 for a count of 0."""
    import ibis

    return (count * ibis.greatest(count, 1).ln() * ENTROPY_UNITS).round().cast("int64")


def windows_of(
    activity: "ir.Table", variety: "ir.Table", windows: list[int], first: int, last: int
) -> "ir.Table":
    """Sums activity and variety over the windows that end with each day from first to last.

    Args:
      activity: from `activity_of`, at least from max(windows) days before first.
      variety: from `variety_of`, over the same days.
      windows: lengths in days.
      first: number of the first day of the result.
      last: number of the last.

    Returns:
      user_id, n, and `<measure>_<w>` for every measure and window; last_* and spread for the
      longest. A user has a row on every day on which the longest window is not empty, and one
      after.
    """
    import ibis

    longest = max(windows)
    rows = _rows(activity, longest, first, last)
    changes = folded(variety.filter(variety.n <= last), first)
    rows = rows.left_join(changes, ["user_id", "n"])
    # One frame a window, shared by all its sums; the day itself needs none.
    frames = {
        w: ibis.range_window(group_by="user_id", order_by="n", preceding=w - 1, following=0)
        for w in windows
    }
    so_far = ibis.window(group_by="user_id", order_by="n", following=0)
    lasts = [name for name in activity.columns if name.startswith("last_")]
    measures = [name for name in activity.columns if name not in ("user_id", "n", *lasts)]
    totals = {
        f"{name}_{w}": rows[name].sum().over(frames[w]) if w > 1 else rows[name]
        for name in measures
        for w in windows
    }
    totals |= {name: rows[name].max().over(frames[longest]) for name in lasts}
    totals |= {
        name: rows[name].fill_null(0).sum().over(so_far)
        for name in changes.columns
        if name not in ("user_id", "n")
    }
    result = rows.select("user_id", "n", **totals)
    return result.filter(result.n >= first)


def _rows(activity: "ir.Table", longest: int, first: int, last: int) -> "ir.Table":
    """Returns the activity of every day that a window of first..last can see, and empty rows.

    From a day with activity on, a user has a row on each day of the result until the longest
    window is empty again, and one more.
    """
    import ibis

    seen = activity.filter(activity.n >= first - longest, activity.n <= last)
    following = seen.n.lead().over(ibis.window(group_by=seen.user_id, order_by=seen.n))
    stop = ibis.least(following, seen.n + longest + 1, last + 1)
    quiet = ibis.range(ibis.greatest(seen.n + 1, first), stop)
    seen = seen.mutate(day=ibis.array([seen.n]).concat(quiet).unnest())
    is_active = seen.day == seen.n
    measures = [name for name in activity.columns if name not in ("user_id", "n")]
    empty = {name: None if name.startswith("last_") else 0 for name in measures}
    return seen.select(
        "user_id",
        n=seen.day,
        **{name: is_active.ifelse(seen[name], empty[name]) for name in measures},
    )
