"""The executor of runs that Dagster's daemon launches: all steps in one process, which is known.

In:  a run. Out: its steps run, under its pools; the run is tagged with the process, so that its
death is noticed, and the process ends with the code server that started it.
"""

import atexit
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import dagster as dg

from orchestration.runs.dead_runs import process_tags
from orchestration.runs.pools import held_pools


class TaggingExecutor(dg.Executor):
    """Executor that tags the run with its process and holds its pools."""

    def __init__(self, inner: dg.Executor) -> None:
        self._inner = inner

    @property
    def retries(self) -> Any:
        """How Dagster retries steps."""
        return self._inner.retries

    @property
    def step_dependency_config(self) -> Any:
        """When Dagster starts a step."""
        return self._inner.step_dependency_config

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        """Tags the run and executes its steps."""
        _end_with_code_server()
        instance, run = plan_context.instance, plan_context.dagster_run
        instance.add_run_tags(run.run_id, process_tags(run.run_id))
        pools = run.run_op_concurrency.all_pools if run.run_op_concurrency else ()
        with held_pools(instance, run.run_id, pools or (), plan_context.log.info):
            yield from self._inner.execute(plan_context, execution_plan)


# A process a step would import everything again for each; what is heavy has its own anyway.
@dg.executor(name="in_process", config_schema=dg.in_process_executor.config_schema)
def in_process_executor(context: dg.InitExecutorContext) -> TaggingExecutor:
    """Dagster's executor of one process, with the run tagged."""
    create = dg.in_process_executor.executor_creation_fn
    assert create
    return TaggingExecutor(create(context))


def _end_with_code_server() -> None:
    """Lets this process be killed soon after the code server that started it for its run.

    Nobody could stop the run any more, and it would outlive the stack. Dagster starts it again,
    and what it has published stays.
    """
    if not (parent := multiprocessing.parent_process()):
        return  # by hand, or in a container of its own

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="end-with-code-server", daemon=True).start()
    atexit.register(_leave)


def _leave() -> None:
    """Ends the process before DuckDB's binding writes pages about its own leaks to the log.

    What was registered later, by libraries that the run has loaded, has been called by now.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
