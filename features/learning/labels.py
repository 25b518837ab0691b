"""What is to be predicted of each user as of the end of a day: one row a user and task.

In: published events, the users table, the tasks of the data set. Out: `labels/<as_of>.parquet`.
Users are those with an event before the as-of instant. A label over a future window reads events
from the as-of instant up to its horizon; what it may compare them with (`known`) is read from the
events before. Inputs never read the former. A task with `snapshots` labels its training users at
earlier days too, in the same way. Examples that do not end with a day are made beside this, in
later_examples.py.
"""

import datetime as dt
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa

from contracts.base.clock import as_of_instant, days_between
from contracts.base.errors import FootpathError
from contracts.base.sql import literal, literals, name, names, parquet
from contracts.config.dataset import Dataset
from contracts.config.tasks import Task
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from features.learning.label_rows import (
    PUBLISHED,
    LabelsReport,
    Split,
    label_rows,
    publish_labels,
    told,
)
from features.learning.snapshots import snapshot_rows


def default_as_of(dataset: Dataset, lake: Lake) -> dt.date:
    """The day that the YAML names, or the last that leaves every task its horizon.

    Raises:
      FootpathError: no events are published, or too few days of them.
    """
    if dataset.learning.as_of:
        return dataset.learning.as_of
    days = lake.days("events")
    horizon = max((task.horizon_days or 0 for task in dataset.daily_tasks), default=0)
    if not days or days[-1] - dt.timedelta(days=horizon) < days[0]:
        raise FootpathError(
            f"data set '{dataset.name}' has {len(days)} published days of events, and its tasks "
            f"need at least {horizon + 1}: materialize more days"
        )
    return days[-1] - dt.timedelta(days=horizon)


def build_labels(
    dataset: Dataset, lake: Lake, as_of: dt.date, split: Split = PUBLISHED, path: Path | None = None
) -> LabelsReport:
    """Publishes the labels of every task whose examples end with the as-of day.

    Args:
      dataset: whose tasks.
      lake: of its events.
      as_of: the day.
      split: of the users.
      path: where they go; by default into the table `labels`, which has the published split.

    Raises:
      FootpathError: no users, a day of a horizon that is not published, a task's SQL that fails,
        or no task that can be learnt.
    """
    connection = connect()
    load_catalog(connection, lake)
    published = lake.days("events")
    if not published or published[0] > as_of:
        raise FootpathError(
            f"data set '{dataset.name}' has no events up to {as_of}: materialize events first"
        )

    def answer(task: Task, day: dt.date) -> None:
        _look_from(connection, lake, [each for each in published if each <= day])
        if task.column:
            _attribute_values(connection, lake, task.column)
        else:
            _future_values(connection, dataset, lake, day, task)
        _frame(connection, dataset, day, task)

    def rows_of(task: Task) -> pa.Table:
        answer(task, as_of)
        return label_rows(connection, task, split)

    def earlier_of(task: Task, rows: pa.Table) -> pa.Table:
        days = [day for day in task.snapshot_days(as_of) if published[0] <= day]
        return snapshot_rows(connection, task, rows, days, partial(answer, task))

    _look_from(connection, lake, [day for day in published if day <= as_of])
    users = connection.execute("SELECT count(*) FROM active").fetchall()[0][0]
    path = path or lake.day("labels", as_of)
    return publish_labels(dataset, lake, path, dataset.daily_tasks, rows_of, users, earlier_of)


def load_catalog(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """Makes `catalog`: item_id and category of every item that the catalog names."""
    items = lake.single("items")
    connection.execute("CREATE TEMP TABLE catalog (item_id VARCHAR, category VARCHAR)")
    if items.exists():
        rows = f"SELECT item_id, category FROM {parquet(literal(str(items)))}"
        connection.execute(f"INSERT INTO catalog {rows}")


def load_days(
    connection: duckdb.DuckDBPyConnection, lake: Lake, view: str, days: list[dt.date]
) -> None:
    """Makes a view of the published events of some days, with each item's category."""
    files = literals(lake.existing("events", days))
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW {view} AS SELECT events.*, category "
        f"FROM {parquet(f'[{files}]')} AS events "
        "LEFT JOIN catalog ON events.item_id = catalog.item_id"
    )


def _look_from(connection: duckdb.DuckDBPyConnection, lake: Lake, days: list[dt.date]) -> None:
    """Makes `past`, the events of days up to one, and `active`: who has any, counted once a day."""
    load_days(connection, lake, "past", days)
    active = f"active_{days[-1]:%Y%m%d}"
    connection.execute(
        f"CREATE TEMP TABLE IF NOT EXISTS {active} AS SELECT DISTINCT user_id FROM past"
    )
    connection.execute(f"CREATE OR REPLACE TEMP VIEW active AS FROM {active}")


def _frame(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, as_of: dt.date, task: Task
) -> None:
    """Makes `answers` of the `found` labels of active users: all end with the as-of day."""
    end = as_of_instant(as_of + dt.timedelta(days=task.horizon_days or 0), dataset.timezone)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE answers AS SELECT user_id, NULL::TIMESTAMPTZ AS since, "
        "$1::TIMESTAMPTZ AS as_of, $2::TIMESTAMPTZ AS label_end, label "
        "FROM found JOIN active USING (user_id)",
        [as_of_instant(as_of, dataset.timezone), end],
    )


def _attribute_values(connection: duckdb.DuckDBPyConnection, lake: Lake, column: str) -> None:
    """Makes `found` from a user attribute."""
    users = lake.single("users")
    if not users.exists():
        raise FootpathError(f"{users} is not there: materialize users first")
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE found AS "
        f"SELECT user_id, attributes[$1] AS label FROM {parquet('$2')}",
        [column, str(users)],
    )


def _future_values(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    lake: Lake,
    as_of: dt.date,
    task: Task,
) -> None:
    """Makes `found` from the task's SQL over each user's events within the horizon."""
    one_day = dt.timedelta(days=1)
    days = days_between(as_of + one_day, as_of + one_day * (task.horizon_days or 0))
    missing = [day for day in days if not lake.day("events", day).exists()]
    if missing:
        raise FootpathError(
            f"task {task.name} of data set '{dataset.name}' looks {task.horizon_days} days past "
            f"{as_of}, and events of {missing[0]} are not published: materialize them, or choose "
            f"an earlier as-of"
        )
    load_days(connection, lake, "future", days)
    query = _compared(task) if task.known else _alone(task)
    try:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE found AS {query}")
    except duckdb.Error as error:
        raise told(dataset, task, error) from None


def _alone(task: Task) -> str:
    """A user without events there is answered like an empty set of events is."""
    return f"""
        WITH seen AS (SELECT user_id, ({task.sql}) AS label FROM future GROUP BY user_id),
             nobody AS (SELECT ({task.sql}) AS label FROM future WHERE false)
        SELECT active.user_id,
          CASE WHEN seen.user_id IS NULL THEN nobody.label ELSE seen.label END AS label
        FROM active LEFT JOIN seen USING (user_id) CROSS JOIN nobody
        """


def _compared(task: Task) -> str:
    """The same where the SQL uses what is known of each user's past."""
    known = ", ".join(f"({sql}) AS {name(column)}" for column, sql in task.known.items())
    columns = names(task.known)
    return f"""
        WITH known AS (SELECT user_id, {known} FROM past GROUP BY user_id),
             seen AS (SELECT user_id, ({task.sql}) AS label
                      FROM future JOIN known USING (user_id) GROUP BY user_id, {columns})
        SELECT known.user_id,
          CASE WHEN seen.user_id IS NULL
               THEN (SELECT ({task.sql}) FROM future WHERE future.user_id = known.user_id)
               ELSE seen.label END AS label
        FROM known LEFT JOIN seen USING (user_id)
        """
