"""Ranges of users, so that a query sees no more than fits into memory, however long the log is.

In:  the published state. Out: ranges of user ids, ascending: what is made of one after the other is
sorted by user as a whole. Tables that are sorted by user let a range skip most of a large object.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

import datetime as dt
import itertools
from typing import TYPE_CHECKING

import pyarrow as pa

from contracts.lake.engine import engine_name
from contracts.lake.layout import Lake
from contracts.lake.reading import read_metadata
from features.behavior.daily_state import STATE
from features.daily import open_engine, read_days, stream

if TYPE_CHECKING:
    import ibis.expr.types as ir

# What one query may make (a row a user and day of the result), and may see.
CHUNK_ROWS = 1_000_000
CHUNK_EVENTS = 3_000_000

# From the first user, inclusive, to the last, exclusive; none: no bound.
Users = tuple[str | None, str | None]

USER = pa.schema([pa.field("user_id", pa.string())])


def of_users(rows: "ir.Table", users: Users) -> "ir.Table":
    """Returns the rows of a range of users."""
    since, until = users
    if since is not None:
        rows = rows.filter(rows.user_id >= since)
    if until is not None:
        rows = rows.filter(rows.user_id < until)
    return rows


def user_ranges(lake: Lake, needed: list[dt.date], days: int) -> list[Users]:
    """Cuts the users of some days into ranges of about as many each.

    Args:
      lake: with the state of the needed days.
      needed: all days that windows see.
      days: how many days of features are built.
    """
    import ibis

    if engine_name() == "spark":
        return [(None, None)]  # it bounds its own memory
    seen = _rows(lake, STATE, needed)
    events = _rows(lake, "events", needed)
    if seen * days <= CHUNK_ROWS and events <= CHUNK_EVENTS:
        return [(None, None)]
    with open_engine() as engine:
        users = read_days(engine, lake, STATE, USER, needed).select("user_id").distinct()
        [many] = stream(engine, users.agg(many=users.count())).read_all()["many"].to_pylist()
        ranges = max(-(-many * days // CHUNK_ROWS), -(-events // CHUNK_EVENTS), 1)
        size = -(-many // ranges)
        ranked = users.mutate(place=ibis.row_number().over(order_by=users.user_id))
        starts = ranked.filter(ranked.place > 0, ranked.place % size == 0)
        found = stream(engine, starts.order_by("user_id")).read_all()["user_id"].to_pylist()
    return list(itertools.pairwise([None, *found, None]))


def _rows(lake: Lake, table: str, days: list[dt.date]) -> int:
    published = set(lake.days(table))
    return sum(read_metadata(lake.day(table, day)).num_rows for day in days if day in published)
