"""SQL of tasks, bound to the columns that it will see, before there is an event.

In:  the YAML's `tasks`. Out: for each expression that is no SQL over them its field and a sentence.
"""

from collections.abc import Iterator

import duckdb

from contracts.base.sql import name, names
from contracts.config.tasks import Task
from contracts.lake.schemas import EVENTS

Fault = tuple[tuple[str | int, ...], str]  # the field's place in the YAML, and what is wrong

# The columns of events and the item's category, as labels.py and later_examples.py read them.
_COLUMNS = [*EVENTS.names, "category"]


def task_faults(connection: duckdb.DuckDBPyConnection, tasks: list[Task]) -> Iterator[Fault]:
    """Binds each expression of the tasks to the columns of events.

    Args:
      connection: DuckDB; gets the table `task_events`, without a row.
      tasks: of a data set.
    """
    connection.register("no_events", EVENTS.empty_table())
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE task_events AS SELECT *, NULL::VARCHAR AS category "
        "FROM no_events"
    )
    connection.unregister("no_events")
    for number, task in enumerate(tasks):
        known: dict[str, str] = {}
        for place, sql, kind in _expressions(task):
            if reason := _reason(connection, sql, kind, known):
                columns = ", ".join([*_COLUMNS, *known])
                text = f"`{sql}` is not valid over the columns of events ({columns}): {reason}"
                yield ("tasks", number, *place), text
            elif place[0] == "known":
                known[place[1]] = sql


def _expressions(task: Task) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Each expression: its place in the task, its SQL, and what it gives of what.

    That is `aggregate` (a value of many events), `condition` or `value` (of one event).
    """
    for column, sql in task.known.items():
        yield ("known", column), sql, "aggregate"
    if task.sql:
        yield ("sql",), task.sql, "answer"
    if task.of:
        yield ("of",), task.of, "condition"
    if task.session and task.session.before:
        yield ("session", "before"), task.session.before, "condition"
    if lists := task.candidates:
        yield ("candidates", "where"), lists.where, "condition"
        yield ("candidates", "relevant"), lists.relevant, "condition"
        for column, sql in lists.numbers.items():
            yield ("candidates", "numbers", column), sql, "value"


def _reason(
    connection: duckdb.DuckDBPyConnection, sql: str, kind: str, known: dict[str, str]
) -> str:
    """Why an expression does not bind; empty if it does."""
    if kind == "condition":
        query = f"SELECT count(*) FILTER (({sql})::BOOLEAN) FROM task_events"
    elif kind == "value":
        query = f"SELECT TRY_CAST(({sql}) AS DOUBLE) FROM task_events"
    elif kind == "answer" and known:
        past = ", ".join(f"({each}) AS {name(column)}" for column, each in known.items())
        query = (
            f"WITH known AS (SELECT user_id, {past} FROM task_events GROUP BY user_id) "
            f"SELECT ({sql}) FROM task_events JOIN known USING (user_id) "
            f"GROUP BY user_id, {names(known)}"
        )
    else:
        query = f"SELECT ({sql}) FROM task_events GROUP BY user_id"
    try:
        connection.execute(f"EXPLAIN {query}")
    except duckdb.Error as error:
        return str(error).splitlines()[0]
    return ""
