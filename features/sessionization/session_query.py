"""Events -> sessions as one Ibis expression: the rule of sessions.py for a cluster.

On one machine, one pass over the sorted files is many times as fast (session_pass.py).
Where the log is too large for that, the same sessions come out of this expression, on any engine
that Ibis speaks. What engines compute differently (sums of floats, text of numbers) is left to
`finished`, which works on the rows that the engine gives.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.base.clock import days_between
from contracts.config.policy import Sessions
from contracts.lake.schemas import SESSIONS
from features.daily import calendar, register, stream
from features.sessionization.session_pass import session_ids
from features.sessionization.sorted_rows import LARGEST_VALUE

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from ibis.backends.duckdb import Backend


def clock_of(first: dt.date, last: dt.date, timezone: str) -> pa.Table:
    """The calendar of first..last, each day with the two days after it.

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


def sessions_of(events: "ir.Table", clock: "ir.Table", how: Sessions) -> "ir.Table":
    """Turns events into sessions.

    Args:
      events: user_id, timestamp, sequence, action, item_id, value, session_id and the local `day`
        of each.
      clock: from `clock_of`, every day of the events.
      how: the longest pause within a session, at most 24 hours, and whether it goes by the source.

    Returns:
      What `finished` makes sessions of. Sessions that begin in the look-back may be incomplete:
      keep the days that were asked for.
    """
    import ibis

    # A session of the source is as if it were a user: its suffix is part of the key.
    suffix = _suffix(events.session_id) if how.by == "source" else ibis.literal("")
    rows = _with_start(events.mutate(suffix=suffix), clock, how)
    sessions = rows.group_by("user_id", "suffix", "started_at").agg(
        ended_at=rows.timestamp.max(),
        last_day=rows.day.max(),
        until=rows.until.max(),
        cut_at=rows.cut_at.max(),
        # Engines differ in whether a list keeps nulls and its order: a sorted one of structs does.
        events=ibis.struct(
            {"place": rows.place, "action": rows.action, "item_id": rows.item_id}
        ).collect(),
        millionths=_millionths(rows.value).sum(),
    )
    return _with_day(sessions, clock)


def _suffix(source: "ir.StringColumn") -> "ir.Value":
    """What session_pass.py:suffixes gives."""
    escaped = source.replace("%", "%25").replace("-", "%2D")
    return escaped.isnull().ifelse("", "-" + escaped)


def _with_start(events: "ir.Table", clock: "ir.Table", how: Sessions) -> "ir.Table":
    """Adds to each event its place among its key's, the start of its session, and any cut."""
    import ibis

    gap, opens = (ibis.interval(seconds=round(p.total_seconds())) for p in (how.gap, how.opens))
    # Not epoch_seconds: engines differ in it.
    without_id = events.timestamp + gap
    until = (events.suffix == "").ifelse(without_id, events.timestamp + opens)
    events = events.mutate(until=until if how.by == "source" else without_id)
    events = events.join(clock.select("day", "starts", "ends"), "day")
    in_order = ibis.window(
        group_by=[events.user_id, events.suffix], order_by=[events.timestamp, events.sequence]
    )
    rows = events.mutate(
        place=ibis.row_number().over(in_order),
        joins_until=events.until.lag().over(in_order),
        next_day=events.day.lead().over(in_order),
    )
    is_first = rows.joins_until.isnull() | (rows.timestamp > rows.joins_until)
    rows = rows.mutate(is_first=is_first, run_started=_latest(rows, is_first))
    # A run of events that comes from before the day and reaches its end fills it.
    is_last = rows.next_day.isnull() | (rows.next_day > rows.day)
    is_filled = is_last & (rows.run_started < rows.starts) & (rows.until >= rows.ends)
    rows = rows.mutate(cut_at=is_filled.ifelse(rows.ends, ibis.null()))
    by_place = ibis.window(group_by=[rows.user_id, rows.suffix], order_by=rows.place)
    is_start = rows.is_first | rows.cut_at.lag().over(by_place).notnull()
    rows = rows.mutate(is_start=is_start)
    return rows.mutate(started_at=_latest(rows, rows.is_start))


def _latest(rows: "ir.Table", is_start: "ir.BooleanColumn") -> "ir.TimestampColumn":
    """The instant of the last start up to each event."""
    import ibis

    so_far = ibis.window(group_by=[rows.user_id, rows.suffix], order_by=rows.place, following=0)
    return is_start.ifelse(rows.timestamp, ibis.null()).max().over(so_far)


def _millionths(value: "ir.FloatingColumn") -> "ir.DecimalColumn":
    """Returns whole millionths; 0 for null and for what is no sum of money."""
    import ibis

    fits = (value.abs() < LARGEST_VALUE).fill_null(False) & ~value.isnan().fill_null(True)
    return fits.ifelse(value * 1e6, 0.0).round().cast(ibis.dtype("decimal(18, 0)"))


def _with_day(sessions: "ir.Table", clock: "ir.Table") -> "ir.Table":
    """Adds the closing instant, the cut flag, and the day that the session belongs to."""
    import ibis

    is_cut = sessions.cut_at.notnull()
    sessions = sessions.mutate(
        is_cut=is_cut,
        closes_at=is_cut.ifelse(sessions.cut_at, sessions.until),
        events=sessions.events.sort(),
    )
    sessions = sessions.join(clock, sessions.last_day == clock.day).drop("day")
    day = ibis.cases(
        (sessions.is_cut | (sessions.closes_at < sessions.ends), sessions.last_day),
        (sessions.closes_at < sessions.next_ends, sessions.next_day),
        else_=sessions.day_after_next,
    )
    items = sessions.events.map(lambda event: event.item_id)
    return sessions.select(
        "user_id",
        "suffix",
        "started_at",
        "ended_at",
        "closes_at",
        "is_cut",
        day=day,
        millionths=sessions.millionths.cast("float64"),
        actions=sessions.events.map(lambda event: event.action),
        item_ids=items,
        distinct_items=items.filter(lambda item: item.notnull()).unique().length().cast("int32"),
    )


def finished(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Makes sessions with their `day` of the rows of `sessions_of`."""
    started, ended = (batch[name].cast("int64") for name in ("started_at", "ended_at"))
    seconds = pc.divide(pc.subtract(ended, started).cast("float64"), 1e6)
    columns = {name: batch[name] for name in ("day", *SESSIONS.names) if name in batch.schema.names}
    columns |= {
        "session_id": session_ids(batch["user_id"], started, batch["suffix"]),
        "length": pc.list_value_length(batch["actions"]),
        "duration_seconds": seconds,
        "value": pc.divide(batch["millionths"], np.float64(1e6)),
    }
    schema = pa.schema([pa.field("day", pa.date32()), *SESSIONS])
    return pa.table(columns).select(schema.names).cast(schema).combine_chunks().to_batches()[0]


def query_sessions(
    engine: "Backend",
    events: "ir.Table",
    since: dt.datetime,
    clock: pa.Table,
    days: list[dt.date],
    how: Sessions,
) -> Iterator[pa.RecordBatch]:
    """The sessions that close in some days, with their `day`, in the order of a day.

    Args:
      engine: where the events are known.
      events: of all days that are needed, with their local `day`.
      since: events before this instant are left out.
      clock: from `clock_of`.
      days: the days that are asked for.
      how: what a session is.
    """
    events = events.filter(events.timestamp >= since)
    sessions = sessions_of(events, register(engine, "clock", clock), how)
    sessions = sessions.filter(sessions.day.isin(days))
    for batch in stream(engine, sessions, ["day", "user_id", "started_at", "suffix"]):
        if batch.num_rows:
            yield finished(batch)
