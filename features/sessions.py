"""Events -> the sessions that close on a day, each in exactly one day's partition.

A session is a maximal run of one user's events, ordered by (timestamp, event_id), with no gap
above `sessions.gap_minutes` (joined: the next event comes at most one gap after the last). It
belongs to the local day in which it closes, that is, in which its last event plus the gap falls.
An event that could still join would come at that instant or before it, so no event after the day
is needed.

The bot rule bounds what is needed before it. A day D is *filled* for a user when, judged on raw
gaps and never on cut pieces, its first event is joined to an event before D and its last event
plus the gap reaches D's end. The piece that ends in a filled day belongs to that day and is
flagged `is_cut` even if nothing follows; the next event starts a new session.

Look-back. Let P be the day that holds start(D) - gap: the day before D, or one earlier where the
clocks make that day shorter than the gap. Every session that closes in D lies within
[start(P), end(D)). For let it begin before P, and let e be its last event before start(D), in day
Q. Either an event of D joins to e, or the session closes in D with e as its last: both ways
e >= start(D) - gap, so P <= Q < D, and e, the last event of Q, plus the gap reaches Q's end. As the
session comes from before P <= Q, the first event of Q is joined to one before Q. So Q is filled,
and the session is cut after e and belongs to Q: a contradiction. Whether a day from P on is filled,
and whether an event from start(P) on is joined to the one before it, needs one gap more. So
[start(P) - gap, end(D)) is enough: one day plus the gap. More does no harm, so a range of days is
one pass.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from contracts.clock import day_window, days_between
from contracts.dataset import Dataset
from contracts.lake import Lake
from contracts.tables import EVENTS, SESSIONS
from features.daily import (
    calendar,
    chunks,
    exact_sum,
    open_engine,
    read_days,
    register,
    row_count,
    stream,
    write_days,
)
from features.provenance import published_inputs

if TYPE_CHECKING:
    import ibis.expr.types as ir

# What a session is made of.
COLUMNS = ("user_id", "timestamp", "event_id", "action", "item_id", "value", "day")

# Events that one query sees: a range above it is cut into runs of days, so that memory is flat.
CHUNK_EVENTS = 20_000_000


def stage_sessions(
    dataset: Dataset, lake: Lake, days: list[dt.date], folder: Path
) -> dict[dt.date, Path]:
    """Builds the sessions that close in each of the days, from the published events.

    Args:
      dataset: gives the time zone and the gap.
      lake: holds `events`; days that are not published count as empty.
      days: local days, in any order.
      folder: gets one Parquet file a day (schema SESSIONS), sorted by user and start.

    Returns:
      The staged file of every day.
    """
    days = sorted(set(days))
    staged = {}
    for chunk in chunks(((day, row_count(lake, "events", day)) for day in days), CHUNK_EVENTS):
        staged |= _stage_chunk(dataset, lake, chunk, folder)
    return staged


def session_needs(dataset: Dataset, day: dt.date) -> dict[str, list[dt.date]]:
    """Returns the days of events that a day of sessions is computed from."""
    gap = dt.timedelta(minutes=dataset.sessions.gap_minutes)
    return {"events": days_between(_lookback(day, gap, dataset.timezone)[0], day)}


def _stage_chunk(
    dataset: Dataset, lake: Lake, days: list[dt.date], folder: Path
) -> dict[dt.date, Path]:
    """Builds days in one query over the union of what they need."""
    gap = dt.timedelta(minutes=dataset.sessions.gap_minutes)
    since = {day: _lookback(day, gap, dataset.timezone) for day in days}
    needed = {read for day in days for read in days_between(since[day][0], day)}
    inputs = published_inputs(lake, {day: session_needs(dataset, day) for day in days})
    with open_engine() as engine:
        events = read_days(engine, lake, "events", EVENTS, sorted(needed))
        events = events.filter(events.timestamp >= since[days[0]][1])
        clock = register(engine, "clock", _clock(min(needed), days[-1], dataset.timezone))
        sessions = sessions_of(events, clock, gap)
        sessions = sessions.filter(sessions.day.isin(days))
        rows = sessions.order_by("day", "user_id", "started_at")
        return write_days(stream(engine, rows), SESSIONS, folder, days, inputs)


def _lookback(day: dt.date, gap: dt.timedelta, timezone: str) -> tuple[dt.date, dt.datetime]:
    """Returns what a day needs: the first day to read, and the instant from which (module top)."""
    before = _day_holding(day_window(day, timezone)[0] - gap, day, timezone)
    instant = day_window(before, timezone)[0] - gap
    return _day_holding(instant, before, timezone), instant


def _day_holding(instant: dt.datetime, day: dt.date, timezone: str) -> dt.date:
    """Returns the day that holds an instant before the end of `day`."""
    while day_window(day, timezone)[0] > instant:
        day -= dt.timedelta(days=1)
    return day


def _clock(first: dt.date, last: dt.date, timezone: str) -> pa.Table:
    """Returns the calendar of first..last, each day with the two days after it.

    A session closes at most 24 hours after the day of its last event, so never later than these.
    """
    days = days_between(first, last)
    following = calendar([day + dt.timedelta(days=1) for day in days], timezone)
    return (
        calendar(days, timezone)
        .append_column("next_day", following["day"])
        .append_column("next_ends", following["ends"])
        .append_column("day_after_next", pa.array([day + dt.timedelta(days=2) for day in days]))
    )


def sessions_of(events: "ir.Table", clock: "ir.Table", gap: dt.timedelta) -> "ir.Table":
    """Turns events into sessions.

    Args:
      events: user_id, timestamp, event_id, action, item_id, value and the local `day` of each.
      clock: day, starts, ends, next_day, next_ends, day_after_next for every day of the events.
      gap: the longest pause within a session, at most 24 hours.

    Returns:
      SESSIONS columns, and the `day` that each session belongs to. Sessions that begin in the
      look-back (module docstring) may be incomplete: keep the days that were asked for.
    """
    import ibis

    pause = ibis.interval(seconds=round(gap.total_seconds()))
    runs = _with_start(events, _filled_days(events, clock, pause), pause)
    ended_at = runs.timestamp.max()
    sessions = runs.group_by("user_id", "started_at").agg(
        ended_at=ended_at,
        last_day=runs.day.max(),
        cut_at=runs.filled_until.max(),
        length=runs.count().cast("int32"),
        duration_seconds=ended_at.delta(runs.timestamp.min(), unit="microsecond") / 1e6,
        actions=runs.action.collect(order_by=runs.place),
        item_ids=runs.item_id.collect(order_by=runs.place, include_null=True),
        value=exact_sum(runs.value),
    )
    return _with_day(sessions, clock, pause)


def _filled_days(events: "ir.Table", clock: "ir.Table", pause: "ir.IntervalScalar") -> "ir.Table":
    """Returns (user_id, last_event, filled_until) of every filled day of a user.

    Only events within one gap of a midnight can matter, which leaves few to aggregate.
    """
    import ibis

    edges = events.join(clock, "day")
    edges = edges.filter(
        (edges.timestamp - pause <= edges.starts) | (edges.timestamp + pause >= edges.ends)
    )
    days = edges.group_by("user_id", "day", "ends").agg(
        first_event=edges.timestamp.min(), last_event=edges.timestamp.max()
    )
    by_user = ibis.window(group_by=days.user_id, order_by=days.day)
    days = days.mutate(event_before=days.last_event.lag().over(by_user))
    days = days.filter(
        days.first_event - pause <= days.event_before, days.last_event + pause >= days.ends
    )
    return days.select("user_id", "last_event", filled_until=days.ends)


def _with_start(events: "ir.Table", filled: "ir.Table", pause: "ir.IntervalScalar") -> "ir.Table":
    """Adds to each event its place among the user's, and the start of its session."""
    import ibis

    # Few days are filled, so this join is a look-up in a small table. It marks a day's last event.
    events = events.left_join(
        filled, [events.user_id == filled.user_id, events.timestamp == filled.last_event]
    ).select(*COLUMNS, "filled_until")
    in_order = ibis.window(group_by=events.user_id, order_by=[events.timestamp, events.event_id])
    events = events.mutate(
        place=ibis.row_number().over(in_order),
        before=events.timestamp.lag().over(in_order),
        cut=events.filled_until.lag().over(in_order),
    )
    # Not epoch_seconds: engines differ in it. `cut` is null unless the day before was filled.
    is_start = (
        events.before.isnull()
        | (events.timestamp - pause > events.before)
        | (events.timestamp >= events.cut)
    ).fill_null(False)
    so_far = ibis.window(group_by=events.user_id, order_by=events.place, following=0)
    return events.mutate(
        started_at=is_start.ifelse(events.timestamp, ibis.null()).max().over(so_far)
    )


def _with_day(sessions: "ir.Table", clock: "ir.Table", pause: "ir.IntervalScalar") -> "ir.Table":
    """Adds id, closing instant, cut flag, and the day that the session belongs to."""
    import ibis

    is_cut = sessions.cut_at.notnull()
    known_items = sessions.item_ids.filter(lambda item: item.notnull())
    start = sessions.started_at.strftime("%Y-%m-%dT%H:%M:%S.%f")
    sessions = sessions.mutate(
        session_id=(sessions.user_id + "|" + start).hexdigest("md5"),
        closes_at=is_cut.ifelse(sessions.cut_at, sessions.ended_at + pause),
        # Not nunique() above: DuckDB would aggregate all events a second time for it.
        distinct_items=known_items.unique().length().cast("int32"),
        is_cut=is_cut,
    )
    sessions = sessions.join(clock, sessions.last_day == clock.day).drop("day")
    day = ibis.cases(
        (sessions.is_cut | (sessions.closes_at < sessions.ends), sessions.last_day),
        (sessions.closes_at < sessions.next_ends, sessions.next_day),
        else_=sessions.day_after_next,
    )
    return sessions.mutate(day=day).select("day", *SESSIONS.names)
