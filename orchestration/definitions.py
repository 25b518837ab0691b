"""The code location: every configured data set, side by side.

A data set whose YAML is wrong is left out, and an asset in its place says why: one team's slip of
the pen must not stop the schedules of all others.

Each Dagster process imports this, so nothing here may load torch, feast or great_expectations.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset, dataset_names, load_dataset
from orchestration.alerts.sensor import alerts_sensor
from orchestration.assets.behavior import behavior_assets
from orchestration.assets.evaluation import evaluation_assets
from orchestration.assets.ingestion import ingestion_assets
from orchestration.assets.learning import learning_assets
from orchestration.assets.serving import serving_assets
from orchestration.automation.sensor import automation_sensor
from orchestration.chain import StageRunner
from orchestration.dead_runs import dead_runs_sensor, in_process_executor
from orchestration.freshness import with_freshness
from orchestration.instance import open_instance
from orchestration.jobs import chain_job, stage_jobs
from orchestration.progress import Progress
from orchestration.retention.job import cleaning_job
from orchestration.stages import DAILY
from orchestration.write_audit_publish import days_check


def dataset_definitions(name: str) -> dg.Definitions:
    """Assets, jobs and sensors of one data set."""
    dataset = load_dataset(name)
    assets = [
        *ingestion_assets(dataset),
        *behavior_assets(dataset),
        *learning_assets(dataset),
        *evaluation_assets(dataset),
        *serving_assets(dataset),
    ]
    assets = with_freshness(dataset, assets)
    jobs = [*stage_jobs(dataset), cleaning_job(dataset)]
    return dg.Definitions(
        assets=assets,
        asset_checks=[days_check(dataset, DAILY)],
        jobs=[*jobs, chain_job(dataset, job_of)],
        sensors=[automation_sensor(dataset, jobs), alerts_sensor(dataset)],
    )


def job_of(name: str) -> dg.JobDefinition:
    """Job of the code location by its name."""
    return defs.resolve_job_def(name)


@contextmanager
def open_runner(dataset: Dataset, resources: dict | None = None) -> Iterator[StageRunner]:
    """Opens the instance of the home folder and runs stages on it, in this process."""
    with open_instance() as instance:
        yield StageRunner(dataset, instance, job_of, resources)


def configured() -> Iterator[dg.Definitions]:
    """Yields the definitions of each data set, or one asset that says why it has none."""
    for name in dataset_names():
        try:
            yield dataset_definitions(name)
        except FootpathError as error:
            sys.stderr.write(f"data set '{name}' is left out: {error}\n")
            slug = re.sub(r"\W", "_", name)
            place = {"key": [slug, "left_out"], "group_name": f"{slug}_left_out"}
            yield dg.Definitions(assets=[dg.AssetSpec(**place, description=str(error))])


defs = dg.Definitions.merge(
    *configured(),
    dg.Definitions(
        resources={"pipes": dg.PipesSubprocessClient(), "progress": Progress()},
        sensors=[dead_runs_sensor],
        executor=in_process_executor,
    ),
)
