"""Examples that do not end with the as-of day: users' last events, and what begins after the day.

In: published events and sessions, the tasks of the data set. Out, of the schema LABELS:
`examples/<as_of>__<table>.parquet`, several rows a user, each with its own as-of. An example is
cut at a whole second: the model sees the user's events before that second, the label what comes
from it on.

Held-out events are the last N of each user; the inputs are sequences without them. Later examples
(sessions, lists of candidates) begin after the as-of day, so the encoder, pre-trained as of that
day, has seen none of them; the inputs are sequences as of the last day, in its vocabulary.
"""

import datetime as dt
from pathlib import Path

import duckdb
import pyarrow as pa

from contracts.base.clock import as_of_instant
from contracts.base.errors import FootpathError
from contracts.base.sql import parquet
from contracts.config.dataset import Dataset
from contracts.config.policy import Sessions
from contracts.config.tasks import SessionExamples, Task
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from features.learning.holdout import is_held_out
from features.learning.label_rows import (
    PUBLISHED,
    LabelsReport,
    Split,
    candidate_rows,
    label_rows,
    publish_labels,
    told,
)
from features.learning.labels import load_catalog, load_days
from features.sessionization.session_pass import suffix_sql

_SECOND = "(epoch_us(timestamp) // 1000000)"
_NEXT_ITEM = "first(item_id ORDER BY timestamp, sequence) FILTER (item_id IS NOT NULL AND ({of}))"


def build_examples(
    dataset: Dataset,
    lake: Lake,
    as_of: dt.date,
    table: str,
    split: Split = PUBLISHED,
    path: Path | None = None,
) -> LabelsReport:
    """Publishes the labels of the tasks of one table: `later`, or `holdout<N>`.

    Args:
      dataset: whose tasks.
      lake: of its events.
      as_of: the day up to which encoders see events.
      table: which of the tables of examples.
      split: of the users.
      path: where they go; by default to the other examples, which have the published split.

    Raises:
      FootpathError: no such tasks, no events to take examples from, a task's SQL that fails, or no
        task that can be learnt.
    """
    tasks = [task for task in dataset.tasks if task.table == table and task.source != "day"]
    if not tasks:
        tables = sorted({task.table for task in dataset.tasks if task.source != "day"})
        raise FootpathError(
            f"data set '{dataset.name}' has no tasks with examples of '{table}': it has those of "
            f"{', '.join(tables) or 'the as-of day alone'}"
        )
    connection = connect()
    load_catalog(connection, lake)
    if tasks[0].holdout:
        users = _load_held_out(connection, dataset, lake, as_of, tasks[0].holdout)
    else:
        users = _load_later(connection, dataset, lake, as_of)

    def rows_of(task: Task) -> pa.Table:
        try:
            if task.candidates:
                return candidate_rows(connection, task, split)
            if task.session:
                _cut_sessions(connection, task.session)
            _answer(connection, task)
            return label_rows(connection, task, split)
        except duckdb.Error as error:
            raise told(dataset, task, error) from None

    path = path or lake.root / "examples" / f"{as_of}__{table}.parquet"
    return publish_labels(dataset, lake, path, tasks, rows_of, users)


def _load_held_out(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, lake: Lake, as_of: dt.date, count: int
) -> int:
    """Makes `cuts` and `rest`: who has more than the last events, and these; returns how many."""
    past = [day for day in lake.days("events") if day <= as_of]
    if not past:
        raise FootpathError(
            f"data set '{dataset.name}' has no events up to {as_of}: materialize events first"
        )
    load_days(connection, lake, "log", past)
    connection.execute(
        f"CREATE TEMP TABLE dealt AS SELECT events.*, {is_held_out(count)} AS is_held_out "
        "FROM log AS events"
    )
    # Two events of one second may lie on either side of the cut: the inputs are without the held
    # out, so everything that is in them may be seen.
    connection.execute(
        f"""
        CREATE TEMP TABLE cuts AS
        SELECT user_id, NULL::TIMESTAMPTZ AS since,
          to_timestamp(max({_SECOND}) FILTER (NOT is_held_out) + 1) AS as_of,
          greatest(max(timestamp) + INTERVAL 1 MICROSECOND,
            to_timestamp(max({_SECOND}) FILTER (NOT is_held_out) + 1)) AS label_end,
          0 AS example
        FROM dealt GROUP BY user_id HAVING bool_or(NOT is_held_out)
        """
    )
    connection.execute(
        "CREATE TEMP VIEW rest AS SELECT *, 0 AS example FROM dealt WHERE is_held_out"
    )
    return connection.execute("SELECT count(*) FROM cuts").fetchall()[0][0]


def _load_later(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, lake: Lake, as_of: dt.date
) -> int:
    """Makes `shown`, the events after the day, and `opened`, the sessions that begin after it."""
    days = [day for day in lake.days("events") if day > as_of]
    if not days:
        raise FootpathError(
            f"data set '{dataset.name}' has no events after {as_of} to take examples from: "
            f"materialize more days, or choose an earlier as-of"
        )
    load_days(connection, lake, "coming", days)
    connection.execute(f"CREATE TEMP VIEW shown AS SELECT *, {_SECOND} AS second FROM coming")
    if any(task.session for task in dataset.tasks):
        closed = lake.existing("sessions", [day for day in lake.days("sessions") if day > as_of])
        if not closed:
            raise FootpathError(
                f"data set '{dataset.name}' has no sessions after {as_of}: materialize sessions"
            )
        connection.execute(
            "CREATE TEMP TABLE opened AS SELECT session_id, user_id, started_at, ended_at "
            f"FROM {parquet('$1')} WHERE started_at >= $2",
            [closed, as_of_instant(as_of, dataset.timezone)],
        )
        connection.execute(f"CREATE TEMP TABLE within AS {_within(dataset.sessions)}")
    return connection.execute("SELECT count(DISTINCT user_id) FROM shown").fetchall()[0][0]


def _within(sessions: Sessions) -> str:
    """The SQL of the events of `shown` with the session of `opened` that each lies in."""
    if sessions.by == "source":  # they may overlap, and begin at one instant
        return (
            "SELECT shown.*, (md5_number_lower(opened.session_id) // 2)::BIGINT AS example "
            "FROM shown JOIN opened ON shown.user_id = opened.user_id "
            "AND shown.timestamp BETWEEN opened.started_at AND opened.ended_at "
            "AND opened.session_id = shown.user_id || '-' || epoch_us(opened.started_at) "
            f"|| {suffix_sql('shown.session_id')}"
        )
    # Each event lies in the last session of the user that began before it, or in none of them.
    return (
        "SELECT shown.*, epoch_us(opened.started_at) AS example FROM shown ASOF JOIN opened "
        "ON shown.user_id = opened.user_id AND shown.timestamp >= opened.started_at "
        "WHERE shown.timestamp <= opened.ended_at"
    )


def _cut_sessions(connection: duckdb.DuckDBPyConnection, session: SessionExamples) -> None:
    """Makes `cuts` and `rest`: each session cut at one of its seconds but the first.

    Which one follows from a hash of the user and the session's start, so it stays for ever.
    """
    bound = f"min(second) FILTER (WHERE ({session.before}))" if session.before else "NULL::BIGINT"
    since = "to_timestamp(seconds[1])" if session.alone else "NULL::TIMESTAMPTZ"
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE cuts AS
        WITH whole AS (
          SELECT user_id, example, list_sort(list(DISTINCT second)) AS seconds,
            {bound} AS bound, max(timestamp) AS ended
          FROM within GROUP BY user_id, example
        ), choices AS (
          SELECT *, list_filter(seconds[2:], lambda s: bound IS NULL OR s <= bound) AS open
          FROM whole
        )
        SELECT user_id, example, {since} AS since,
          to_timestamp(open[1 + (md5_number_lower(user_id || '|' || example) % len(open))::INTEGER])
            AS as_of,
          ended + INTERVAL 1 MICROSECOND AS label_end
        FROM choices WHERE len(open) > 0
        """
    )
    connection.execute(
        "CREATE OR REPLACE TEMP VIEW rest AS SELECT within.* FROM within "
        "JOIN cuts USING (user_id, example) WHERE to_timestamp(second) >= cuts.as_of"
    )


def _answer(connection: duckdb.DuckDBPyConnection, task: Task) -> None:
    """Makes `answers` from the task's SQL over the rest of each example, which is never empty."""
    sql = task.sql or _NEXT_ITEM.format(of=task.of or "true")
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE answers AS
        WITH found AS (SELECT user_id, example, ({sql}) AS label FROM rest GROUP BY ALL)
        SELECT user_id, since, as_of, label_end, label FROM cuts JOIN found USING (user_id, example)
        """
    )
