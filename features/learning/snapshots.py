"""Labels of training users at days before the as-of: several examples of a user in place of one.

In: what a future-window task answers at a day, as labels.py makes it. Out: rows of LABELS of users
whom the as-of day puts into training, each with the earlier day as its `as_of`. What the as-of day
alone decides stays: who is a training user with a label, the median, the commonest classes and
their indices. Rows of the as-of day are the same with and without these.
"""

import datetime as dt
from collections.abc import Callable

import duckdb
import pyarrow as pa

from contracts.config.tasks import Task
from contracts.lake.schemas import LABELS


def snapshot_rows(
    connection: duckdb.DuckDBPyConnection,
    task: Task,
    rows: pa.Table,
    days: list[dt.date],
    answer: Callable[[dt.date], None],
) -> pa.Table:
    """The rows of earlier days.

    Args:
      connection: with `answers` of the as-of day.
      task: over a future window.
      rows: of the as-of day, made of these.
      days: earlier ones whose windows are over by the as-of.
      answer: makes `answers` of a day.
    """
    connection.register("labeled", rows)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE trained AS SELECT user_id FROM labeled WHERE split = 'train'"
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE classes AS SELECT DISTINCT label, value FROM labeled"
    )
    if task.above:
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE middle AS SELECT median(label) AS label "
            "FROM answers SEMI JOIN trained USING (user_id)"
        )
    found = [rows.slice(0, 0)]
    for day in days:
        answer(day)
        found.append(_rows_of_answers(connection, task))
    connection.unregister("labeled")
    return pa.concat_tables(found)


def _rows_of_answers(connection: duckdb.DuckDBPyConnection, task: Task) -> pa.Table:
    """The rows of training users; a class that nobody has as of the as-of day is no label."""
    if task.kind == "regression":
        valued = "SELECT *, TRY_CAST(label AS DOUBLE) AS value, NULL AS named FROM known"
    else:
        valued = (
            f"SELECT known.*, classes.value, classes.label AS named "
            f"FROM known JOIN classes ON classes.label = {_class_of(connection, task)}"
        )
    rows = connection.sql(
        f"""
        WITH known AS (
          SELECT * FROM answers SEMI JOIN trained USING (user_id) WHERE label IS NOT NULL
        ), valued AS ({valued})
        SELECT user_id, since, as_of, label_end, $1 AS task, value, named AS label,
          NULL::DOUBLE[] AS numbers, 'train' AS split
        FROM valued WHERE isfinite(value) ORDER BY user_id
        """,
        params=[task.name],
    )
    return rows.to_arrow_table().cast(LABELS)


def _class_of(connection: duckdb.DuckDBPyConnection, task: Task) -> str:
    """The SQL of the name of a label's class."""
    if task.above:
        return "CASE WHEN known.label > (SELECT label FROM middle) THEN 'yes' ELSE 'no' END"
    kind = connection.execute("SELECT typeof(label) FROM answers LIMIT 1").fetchall()
    if kind and kind[0][0] == "BOOLEAN":
        return "CASE WHEN known.label THEN 'yes' ELSE 'no' END"
    if not task.classes:
        return "known.label::VARCHAR"
    own = "known.label::VARCHAR"
    return f"CASE WHEN {own} IN (SELECT label FROM classes) THEN {own} ELSE 'other' END"
