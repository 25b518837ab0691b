"""What is to be predicted of each user as of the end of a day: one row a user and task.

In: published events, the users table, the tasks of the data set. Out: `labels/<as_of>.parquet`.
Users are those with an event before the as-of instant. A label over a future window reads events
from the as-of instant up to its horizon and nothing else; an input never reads those.
"""

import datetime as dt
from collections import Counter
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from contracts.clock import as_of_instant, days_between
from contracts.dataset import Dataset
from contracts.engine import connect
from contracts.errors import FootpathError
from contracts.lake import Lake, publish_table
from contracts.tables import LABELS
from contracts.tasks import Task

# Users are dealt to the splits once, by a hash of their id: the same for every task, as-of and run.
_SPLIT = (
    "CASE md5_number_lower(user_id) % 10 WHEN 9 THEN 'test' WHEN 8 THEN 'valid' ELSE 'train' END"
)


@dataclass(frozen=True)
class LabelsReport:
    """What was published."""

    rows: int
    users: int
    tasks: dict[str, int]  # labelled users
    classes: dict[str, list[str]]  # of classification tasks
    warnings: list[str]  # tasks that were left out, and why


def default_as_of(dataset: Dataset, lake: Lake) -> dt.date:
    """Returns the day that the YAML names, or the last that leaves every task its horizon.

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


def build_labels(dataset: Dataset, lake: Lake, as_of: dt.date) -> LabelsReport:
    """Publishes the labels of every task as of the end of a day.

    Raises:
      FootpathError: no users, a day of a horizon that is not published, a task's SQL that fails,
        or no task that can be learnt.
    """
    connection = connect()
    _load_users(connection, dataset, lake, as_of)
    parts, classes, warnings = [], {}, []
    for task in dataset.daily_tasks:
        rows = _task_rows(connection, dataset, lake, as_of, task)
        counts = Counter(rows["label"].to_pylist()) if task.kind == "classification" else {}
        if rows.num_rows == 0:
            warnings.append(f"task {task.name} has no labelled user as of {as_of}: left out")
        elif len(counts) == 1:
            (only,) = counts
            warnings.append(f"task {task.name} has the one class '{only}' as of {as_of}: left out")
        else:
            parts.append(rows)
            classes[task.name] = sorted(counts)
    if not parts:
        raise FootpathError(
            f"data set '{dataset.name}' has nothing to learn: {'; '.join(warnings)}"
        )
    table = pa.concat_tables(parts)
    publish_table(lake, table, lake.day("labels", as_of))
    users = connection.execute("SELECT count(*) FROM active").fetchall()[0][0]
    counted = Counter(table["task"].to_pylist())
    return LabelsReport(table.num_rows, users, dict(counted), classes, warnings)


def _load_users(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, lake: Lake, as_of: dt.date
) -> None:
    """Makes `active`: user_id and split of everyone with an event up to the as-of day."""
    past = lake.existing("events", [day for day in lake.days("events") if day <= as_of])
    if not past:
        raise FootpathError(
            f"data set '{dataset.name}' has no events up to {as_of}: materialize events first"
        )
    connection.execute(
        f"CREATE TEMP TABLE active AS SELECT DISTINCT user_id, {_SPLIT} AS split "
        "FROM read_parquet($1)",
        [past],
    )


def _task_rows(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    lake: Lake,
    as_of: dt.date,
    task: Task,
) -> pa.Table:
    """Returns the rows of one task in the schema LABELS, ordered by user."""
    if task.column:
        _attribute_values(connection, lake, task.column)
    else:
        _future_values(connection, dataset, lake, as_of, task)
    kind = connection.execute("SELECT typeof(label) FROM answers LIMIT 1").fetchall()
    if task.kind == "regression":
        value, label = "TRY_CAST(label AS DOUBLE)", "NULL"
    elif kind and kind[0][0] == "BOOLEAN":
        value, label = "label::INTEGER", "CASE WHEN label THEN 'yes' ELSE 'no' END"
    else:
        value, label = "dense_rank() OVER (ORDER BY label::VARCHAR) - 1", "label::VARCHAR"
    end = as_of_instant(as_of + dt.timedelta(days=task.horizon_days or 0), dataset.timezone)
    rows = connection.sql(
        f"""
        WITH valued AS (
          SELECT user_id, split, ({value})::DOUBLE AS value, {label} AS label
          FROM answers JOIN active USING (user_id) WHERE label IS NOT NULL
        )
        SELECT user_id, NULL::TIMESTAMPTZ AS since, $1::TIMESTAMPTZ AS as_of,
          $2::TIMESTAMPTZ AS label_end, $3 AS task, value, label, NULL::DOUBLE[] AS numbers, split
        FROM valued WHERE isfinite(value) ORDER BY user_id
        """,
        params=[as_of_instant(as_of, dataset.timezone), end, task.name],
    )
    return rows.to_arrow_table().cast(LABELS)


def _attribute_values(connection: duckdb.DuckDBPyConnection, lake: Lake, column: str) -> None:
    """Makes `answers` from a user attribute."""
    users = lake.single("users")
    if not users.exists():
        raise FootpathError(f"{users} is not there: materialize users first")
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE answers AS "
        "SELECT user_id, attributes[$1] AS label FROM read_parquet($2)",
        [column, str(users)],
    )


def _future_values(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    lake: Lake,
    as_of: dt.date,
    task: Task,
) -> None:
    """Makes `answers` from the task's SQL over each user's events within the horizon."""
    one_day = dt.timedelta(days=1)
    days = days_between(as_of + one_day, as_of + one_day * (task.horizon_days or 0))
    missing = [day for day in days if not lake.day("events", day).exists()]
    if missing:
        raise FootpathError(
            f"task {task.name} of data set '{dataset.name}' looks {task.horizon_days} days past "
            f"{as_of}, and events of {missing[0]} are not published: materialize them, or choose "
            f"an earlier as-of"
        )
    connection.execute(
        "CREATE OR REPLACE TEMP VIEW future AS SELECT events.* FROM "
        f"read_parquet({lake.existing('events', days)!r}) AS events"
    )
    try:
        # A user without events there is answered like an empty set of events is.
        connection.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE answers AS
            WITH seen AS (SELECT user_id, ({task.sql}) AS label FROM future GROUP BY user_id),
                 nobody AS (SELECT ({task.sql}) AS label FROM future WHERE false)
            SELECT active.user_id,
              CASE WHEN seen.user_id IS NULL THEN nobody.label ELSE seen.label END AS label
            FROM active LEFT JOIN seen USING (user_id) CROSS JOIN nobody
            """
        )
    except duckdb.Error as error:
        raise FootpathError(
            f"task {task.name} of data set '{dataset.name}': `{task.sql}` does not run over "
            f"events: {str(error).splitlines()[0]}"
        ) from None
