"""Retries of steps: what failed for want of a connection or a process is tried again, a fault not.

A RetryPolicy of Dagster would try everything again, a file that nobody has fixed too. A run whose
own process dies is not ours to retry: Dagster does, by `run_retries` of dagster.yaml.
"""

import contextlib
from collections.abc import Iterator

import dagster as dg

from contracts.base.errors import TransientError

RETRIES = 2
WAIT_SECONDS = 20.0  # before the first; twice as long before each next one

# By name, for each client library has its own: botocore, redis, psycopg, SQLAlchemy.
LOST = {"ConnectionError", "HTTPClientError", "InterfaceError", "OperationalError", "TimeoutError"}


@contextlib.contextmanager
def retried(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Asks Dagster to run the step again where what is inside fails in passing.

    Raises:
      RetryRequested: it has; once the retries are used up, the step fails with the cause.
    """
    try:
        yield
    except Exception as error:
        if not is_transient(error) or context.op_execution_context.retry_number >= RETRIES:
            raise
        wait = WAIT_SECONDS * 2**context.op_execution_context.retry_number
        context.log.warning(f"{error}; trying again in {wait:.0f} s")
        raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=wait) from error


def is_transient(error: BaseException) -> bool:
    """Whether an error may pass by itself."""
    return isinstance(error, TransientError) or any(
        kind.__name__ in LOST for kind in type(error).__mro__
    )
