"""Events -> the sessions that close on a day, each in exactly one day's partition.

A session is a maximal run of one user's events, ordered by (timestamp, sequence), with no gap
above `sessions.gap_minutes` (joined: the next event comes at most one gap after the last). It
belongs to the local day in which it closes, that is, in which its last event plus the gap falls.
An event that could still join would come at that instant or before it, so no event after the day
is needed.

The bot rule bounds what is needed before it. A day D is *filled* for a user when their events,
judged on raw gaps and never on cut pieces, go on through all of it: the first is joined to an event
before D, each next one to the one before it, and the last plus the gap reaches D's end. The piece
that ends in a filled day belongs to that day and is flagged `is_cut` even if nothing follows; the
next event starts a new session. (Were the day allowed a gap, people who are up at one midnight and
at the next would be cut.)

Look-back. Let P be the day that holds start(D) - gap: the day before D, or one earlier where the
clocks make that day shorter than the gap. Every session that closes in D lies within
[start(P), end(D)). For let it begin before P, and let e be its last event before start(D), in day
Q. Either an event of D joins to e, or the session closes in D with e as its last: both ways
e >= start(D) - gap, so P <= Q < D, and e, the last event of Q, plus the gap reaches Q's end. As the
session comes from before P <= Q and goes on to e, it holds all events of Q, and has no gap: the
first is joined to one before Q, the others to each other. So Q is filled, and the session is cut
after e and belongs to Q: a contradiction. Whether a day from P on is filled, and whether an event
from start(P) on is joined to the one before it, needs one gap more. So [start(P) - gap, end(D)) is
enough: one day plus the gap. More does no harm, so a range of days is one pass.

By the source (`sessions.by: source`), all of this holds of the events of one user and one session
id of the source as if they were a user of their own, with `sessions.open_minutes` for the gap; a
user's events without an id are one more. A user's sessions may then overlap, and an id that comes
again after a longer pause, or after a filled day, begins another session. The look-back is that of
the longer of both gaps. What comes late makes its day, and those that look back to it, due again.

A session's id is `<user>-<start in microseconds since 1970>`, and by the source
`<user>-<start>-<id of the source>` (session_pass.py:suffixes).
"""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from contracts.base.clock import day_window, days_between
from contracts.config.dataset import Dataset
from contracts.lake.engine import engine_name
from contracts.lake.layout import Lake
from contracts.lake.schemas import EVENTS, SESSIONS
from features.daily import open_engine, read_days, write_days
from features.provenance import published_inputs
from features.sessionization.session_pass import Pauses, Window, ahead, sessions_in_order
from features.sessionization.session_query import clock_of, query_sessions


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
    inputs = published_inputs(lake, {day: session_needs(dataset, day) for day in days})
    folder.mkdir(parents=True, exist_ok=True)
    staged = {}
    for run in _runs(dataset, days):
        rows = _queried if engine_name() == "spark" else _passed
        found = rows(dataset, lake, run, folder)
        staged |= write_days(found, SESSIONS, folder, run, inputs)
    return staged


def _passed(
    dataset: Dataset, lake: Lake, days: list[dt.date], folder: Path
) -> Iterator[pa.RecordBatch]:
    """The sessions of some days by one pass over the sorted files."""
    first, since = _lookback(days[0], dataset.sessions.longest, dataset.timezone)
    wanted = set(days)
    windows = [
        Window(day, day_window(day, dataset.timezone)[1], day in wanted)
        for day in days_between(first, days[-1])
    ]
    return ahead(sessions_in_order(lake, windows, since, Pauses.of(dataset.sessions), folder))


def _queried(
    dataset: Dataset,
    lake: Lake,
    days: list[dt.date],
    folder: Path,  # noqa: ARG001
) -> Iterator[pa.RecordBatch]:
    """The sessions of some days by one query on the engine of FOOTPATH_ENGINE."""
    first, since = _lookback(days[0], dataset.sessions.longest, dataset.timezone)
    with open_engine(engine_name()) as engine:
        events = read_days(engine, lake, "events", EVENTS, days_between(first, days[-1]))
        clock = clock_of(first, days[-1], dataset.timezone)
        yield from query_sessions(engine, events, since, clock, days, dataset.sessions)


def _runs(dataset: Dataset, days: list[dt.date]) -> list[list[dt.date]]:
    """Cuts sorted days where the look-back of one does not reach the one before it."""
    runs: list[list[dt.date]] = []
    for day in days:
        if runs and session_needs(dataset, day)["events"][0] <= runs[-1][-1]:
            runs[-1].append(day)
        else:
            runs.append([day])
    return runs


def session_needs(dataset: Dataset, day: dt.date) -> dict[str, list[dt.date]]:
    """The days of events that a day of sessions is computed from."""
    first, _ = _lookback(day, dataset.sessions.longest, dataset.timezone)
    return {"events": days_between(first, day)}


def _lookback(day: dt.date, gap: dt.timedelta, timezone: str) -> tuple[dt.date, dt.datetime]:
    """What a day needs: the first day to read, and the instant from which (module top)."""
    before = _day_holding(day_window(day, timezone)[0] - gap, day, timezone)
    instant = day_window(before, timezone)[0] - gap
    return _day_holding(instant, before, timezone), instant


def _day_holding(instant: dt.datetime, day: dt.date, timezone: str) -> dt.date:
    """The day that holds an instant before the end of `day`."""
    while day_window(day, timezone)[0] > instant:
        day -= dt.timedelta(days=1)
    return day
