"""The sensor that keeps one data set up to date, in Dagster: a plan a look, its requests as runs.

It is off until somebody turns it on, in the UI or by `footpath automation on`. Each run that it
requests is a range of partitions with its reason as a tag; a tick without one tells what waits.
"""

import datetime as dt

import dagster as dg

from contracts.base.clock import now
from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from orchestration.automation.history import RunHistory
from orchestration.automation.notes import tell
from orchestration.automation.plan import make_plan
from orchestration.automation.request import Plan, Request
from orchestration.partitions import add_requested
from orchestration.stages import job_name
from orchestration.tags import DUE, MAX_RETRIES, REASON, REQUEST, REQUESTED_AT, range_tags

# The longest text of a tag or a tick: a day's sentences can be many.
SHOWN = 1000

SETTLED = "everything is as it should be"


def sensor_name(dataset: Dataset) -> str:
    """Name of the sensor of a data set."""
    return f"{dataset.slug}_automation"


def automation_sensor(dataset: Dataset, jobs: list) -> dg.SensorDefinition:
    """Sensor that requests what is due of a data set, as runs of these of its jobs."""
    names = {job.name for job in jobs}

    @dg.sensor(
        name=sensor_name(dataset),
        jobs=jobs,
        minimum_interval_seconds=dataset.automation.every_seconds,
        # Its page does not wrap lines.
        description="Lands, builds, trains, promotes, embeds and serves what is due; see "
        "`automation` in the YAML.",
    )
    def automation(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        instant = now()
        history = RunHistory(context.instance, dataset)
        try:
            plan = make_plan(dataset, Lake.of(dataset.name), instant, history)
        except FootpathError as error:
            return dg.SensorResult(skip_reason=dg.SkipReason(str(error)))
        tell(context.instance, dataset, plan)
        requests = [
            dg.RunRequest(
                run_key=f"{request.key}/{history.tries(request.key)}",
                job_name=job_name(dataset, request.stage),
                tags=request_tags(request, instant),
                run_config=request_config(dataset, request),
            )
            for request in plan.requests
            if job_name(dataset, request.stage) in names
        ]
        for request in plan.requests:
            add_requested(context.instance, dataset, request.stage, request.first, request.last)
        if requests:
            return dg.SensorResult(requests)
        return dg.SensorResult(skip_reason=dg.SkipReason(told(plan)))

    return automation


def request_tags(request: Request, instant: dt.datetime) -> dict[str, str]:
    """Run tags of a request: its partitions, its key and its reason."""
    tags = {
        REQUEST: request.key,
        REASON: _short(request.reason),
        REQUESTED_AT: instant.isoformat(),
        # The plan itself asks again, so that Dagster need not.
        MAX_RETRIES: "0",
    }
    if not request.whole:
        tags[DUE] = "true"
    if request.first and request.last:
        tags |= range_tags(request.first, request.last)
    return tags


def request_config(dataset: Dataset, request: Request) -> dict:
    """Run config of a request."""
    if not request.config:
        return {}
    return {
        "ops": {
            f"{dataset.slug}__{asset}": {"config": settings}
            for asset, settings in request.config.items()
        }
    }


def told(plan: Plan) -> str:
    """What stands in a tick without a request."""
    return _short("; ".join(map(str, plan.notes)) or SETTLED)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
