"""What became of earlier requests, as Dagster's runs tell: under way, done, or to be tried again.

A request is known by its key, which is alike for as long as it would be made of the same things.
One that failed is made again after a while, which grows with each failure in a row: what failed in
passing heals by itself, and what does not is tried once a day until somebody mends it. What the
gate or a broken file has stopped is no failure of a request: the lake says so, and nothing is due.
"""

import datetime as dt

import dagster as dg

from contracts.config.dataset import Dataset
from orchestration.automation.request import Request
from orchestration.runs.dead_runs import UNFINISHED
from orchestration.stages import job_name, stage_assets
from orchestration.tags import REQUEST, REQUESTED_AT

FIRST_WAIT = dt.timedelta(minutes=5)
LONGEST_WAIT = dt.timedelta(days=1)


class RunHistory:
    """Earlier requests of a data set, as an instance has their runs."""

    def __init__(self, instance: dg.DagsterInstance, dataset: Dataset) -> None:
        self._instance = instance
        self._dataset = dataset
        self._assets = {stage: {*keys} for stage, keys in stage_assets(dataset).items()}
        self._unfinished = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))

    def running(self, stage: str) -> str | None:
        """A run of the stage that has not ended, whoever has started it."""
        job, assets = job_name(self._dataset, stage), self._assets.get(stage, set())
        for run in self._unfinished:
            if run.job_name == job or assets & (run.asset_selection or set()):
                return run.run_id
        return None

    def held(self, request: Request, now: dt.datetime) -> str | None:
        """Why a request is not made again yet: how often it failed, and when the next try is."""
        runs = self._instance.get_runs(dg.RunsFilter(tags={REQUEST: request.key}))
        if not runs:
            return None
        last = dt.datetime.fromisoformat(runs[0].tags[REQUESTED_AT])
        wait = min(FIRST_WAIT * 4 ** min(len(runs) - 1, 8), LONGEST_WAIT)
        if now >= last + wait:
            return None
        times = f"{len(runs)} times" if len(runs) > 1 else "once"
        what = "succeeded, and is due as before" if runs[0].is_success else "failed"
        return (
            f"run {runs[0].run_id} {what} ({times}): it is tried again at "
            f"{last + wait:%Y-%m-%d %H:%M} UTC, or once what it is made of changes"
        )

    def is_done(self, key: str) -> bool:
        """Whether a request of this key has succeeded."""
        runs = self._instance.get_runs(dg.RunsFilter(tags={REQUEST: key}))
        return any(run.is_success for run in runs)

    def tries(self, key: str) -> int:
        """How many runs a request of this key has had."""
        return len(self._instance.get_runs(dg.RunsFilter(tags={REQUEST: key})))
