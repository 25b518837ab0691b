"""Does all that is due of a data set in this process: what the sensor would request, in turn."""

import datetime as dt
from collections.abc import Callable, Collection

from contracts.base.clock import now
from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from orchestration.automation.history import RunHistory
from orchestration.automation.plan import make_plan
from orchestration.automation.request import Plan, Request
from orchestration.automation.sensor import request_config, request_tags
from orchestration.chain import STAGES, Stage, StageRunner, run_stage

# What follows from landing files alone, without a training.
FOLLOWING = ("tables", "landing", "daily", "embedding", "serving")


def catch_up(
    runner: StageRunner, say: Callable[[str], object], stages: Collection[str] = STAGES
) -> Plan:
    """Runs requests until none is left, and returns the last plan, with what stands still.

    A request that fails is told, and the others go on.

    Args:
      runner: runs the stages.
      say: gets a line a request, and one of what came of it.
      stages: those that may be run.

    Raises:
      FootpathError: a request failed; what was published before stays.
    """
    dataset, lake = runner.dataset, Lake.of(runner.dataset.name)
    failed: dict[str, str] = {}
    while True:
        instant = now()
        plan = make_plan(dataset, lake, instant, RunHistory(runner.instance, dataset))
        asked = [request for request in plan.requests if request.stage in stages]
        requests = [request for request in asked if request.key not in failed]
        if not requests:
            break
        for request in requests:
            say(str(request))
            try:
                rows = run_stage(runner, _stage(runner, request, instant))
                made = ", ".join(f"{name} {count:,}" for name, count in rows.items())
                say(f"   rows: {made}" if made else "   done")
            except FootpathError as error:
                failed[request.key] = str(error)
                say(f"   {error}")
    if failed:
        raise FootpathError("\n".join(failed.values()))
    return plan


def _stage(runner: StageRunner, request: Request, instant: dt.datetime) -> Stage:
    return Stage(
        request.stage,
        request.reason,
        request.first,
        request.last,
        request_config(runner.dataset, request),
        request_tags(request, instant),
    )
