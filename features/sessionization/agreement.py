"""Agreement of two kinds of sessions: do a gap, and the source's own ids, let them begin alike?

In:  events with the source's session ids. Out: how many events have one, and of how many of these
both say the same: that a session begins with it, or that it goes on.
"""

import datetime as dt

import duckdb

from contracts.base.sql import literals, parquet
from contracts.config.dataset import Dataset
from contracts.config.policy import Sessions
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from features.daily import row_count
from features.sessionization.sessions import session_needs

# Events that are looked at; of more, those of some users.
ENOUGH_EVENTS = 1_000_000


def agreement_of_days(
    dataset: Dataset, lake: Lake, days: list[dt.date]
) -> dict[dt.date, tuple[int, int]]:
    """Events of each day that have a session id, and those on which both kinds agree.

    Args:
      dataset: says what sessions are.
      lake: holds `events`; of a large day the events of one user in so many are counted.
      days: local days.
    """
    found = {}
    with connect() as connection:
        for day in days:
            needed = session_needs(dataset, day)["events"]
            paths = lake.existing("events", needed)
            events = sum(row_count(lake, "events", each) for each in needed)
            one_in = max(1, events // ENOUGH_EVENTS)
            rows = (
                "SELECT user_id, timestamp, sequence, session_id, "
                f"filename LIKE '%{day.isoformat()}.parquet' AS is_counted "
                f"FROM {parquet(f'[{literals(paths)}]', 'filename = true')} "
                f"WHERE hash(user_id) % {one_in} = 0"
            )
            found[day] = agreement(connection, rows, dataset.sessions) if paths else (0, 0)
    return found


def agreement(
    connection: duckdb.DuckDBPyConnection, events: str, sessions: Sessions
) -> tuple[int, int]:
    """Events with a session id, and those on which both kinds of sessions agree.

    Args:
      connection: DuckDB.
      events: SQL of user_id, timestamp, sequence, session_id and is_counted.
      sessions: the longest pauses.
    """
    order = "ORDER BY timestamp, sequence"
    pauses = {
        "by_gap": ("user_id", sessions.gap),
        "by_source": ("user_id, session_id", sessions.opens),
    }
    begins = ", ".join(
        f"coalesce(timestamp - lag(timestamp) OVER (PARTITION BY {key} {order}) "
        f"> to_seconds({pause.total_seconds():.0f}), true) AS {name}"
        for name, (key, pause) in pauses.items()
    )
    return connection.sql(
        "SELECT count(*), count(*) FILTER (by_gap = by_source) FROM "
        f"(SELECT *, {begins} FROM ({events})) WHERE is_counted AND session_id IS NOT NULL"
    ).fetchall()[0]
