"""All SQL of a data set's YAML, bound before a file is read: a slip is told by its field.

In:  a data set. Out: a FieldError with every fault, of types of columns and of expressions in
`events`, `items`, `users` and `tasks`, and of `learning.query`. Who loads the YAML adds file and
line.
"""

from collections.abc import Iterator
from functools import partial

import duckdb

from contracts.base.errors import FieldError, FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from features.expressions import column_types
from features.ingestion.lookup_tables import check_lookup
from features.ingestion.mapping import check_mapping
from features.learning.encoding import query_sql
from features.learning.task_sql import Fault, task_faults


def check_sql(dataset: Dataset) -> None:
    """Binds every expression of a data set to the columns that it is over.

    Raises:
      FieldError: types or expressions are wrong: all of them are told.
    """
    with connect() as connection:
        faults = [*_source_faults(connection, dataset), *task_faults(connection, dataset.tasks)]
    if faults:
        raise FieldError(f"data set '{dataset.name}'", faults)


def _source_faults(connection: duckdb.DuckDBPyConnection, dataset: Dataset) -> Iterator[Fault]:
    checks = {
        "landing": partial(check_mapping, connection, dataset),
        "items": partial(check_lookup, connection, dataset, "items"),
        "users": partial(check_lookup, connection, dataset, "users"),
        "learning": partial(query_sql, dataset),
    }
    for section, check in checks.items():
        columns = getattr(getattr(dataset, section), "columns", {})
        wrong = list(_type_faults(connection, section, columns))
        yield from wrong
        if wrong:  # over columns without a type, no expression can be judged
            continue
        try:
            check()
        except FieldError as error:
            yield from error.faults


def _type_faults(
    connection: duckdb.DuckDBPyConnection, section: str, columns: dict[str, str]
) -> Iterator[Fault]:
    for column, kind in columns.items():
        try:
            column_types(connection, {column: kind})
        except FootpathError as error:
            yield (section, "columns", column), str(error)
