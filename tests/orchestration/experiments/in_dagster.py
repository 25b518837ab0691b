"""Work done within an asset of its own, as assets do it: with Dagster's context and Pipes."""

from collections.abc import Callable
from typing import Any

import dagster as dg

from contracts.lake.layout import Lake
from models.experiments.planning import Plan
from orchestration.experiments.runner import Outcome, Runner

Work = Callable[[dg.AssetExecutionContext, dg.PipesSubprocessClient], Any]


def in_dagster(work: Work) -> Any:
    """Returns what the work returns; raises what it raises."""
    found = []

    @dg.asset
    def tiny(
        context: dg.AssetExecutionContext, pipes: dg.PipesSubprocessClient
    ) -> dg.MaterializeResult:
        found.append(work(context, pipes))
        return dg.MaterializeResult()

    with dg.DagsterInstance.ephemeral() as instance:
        pipes = dg.PipesSubprocessClient()
        dg.materialize([tiny], instance=instance, resources={"pipes": pipes})
    return found[0]


def run_plan(lake: Lake, plan: Plan, workers: int = 1, **options: Any) -> Outcome:
    """Runs the jobs of a plan."""
    return in_dagster(
        lambda context, pipes: Runner(context, pipes, lake, workers, **options).run(plan.jobs)
    )
