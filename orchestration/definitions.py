"""The code location: every enabled data set, side by side.

A data set whose YAML is wrong is left out, and an asset in its place says why: one team's slip of
the pen must not stop the schedules of all others. Where none is enabled, an asset says what to do.

Each Dagster process imports this, so nothing here may load torch, feast or great_expectations.
"""

import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import dagster as dg

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset, dataset_names, load_dataset
from contracts.config.sources import is_enabled
from features.staleness import daily_tables
from orchestration.alerts.sensor import alerts_sensor
from orchestration.assets.behavior import behavior_assets
from orchestration.assets.evaluation import evaluation_assets
from orchestration.assets.ingestion import ingestion_assets
from orchestration.assets.learning import learning_assets
from orchestration.assets.serving import serving_assets
from orchestration.automation.sensor import automation_sensor
from orchestration.catalog import with_code_references
from orchestration.chain import StageRunner
from orchestration.freshness import with_freshness
from orchestration.instance import open_instance
from orchestration.jobs import chain_job, stage_jobs
from orchestration.progress import Progress
from orchestration.retention.job import cleaning_job
from orchestration.runs.dead_runs import dead_runs_sensor
from orchestration.runs.executor import in_process_executor
from orchestration.write_audit_publish import days_check

# What Dagster calls beta is ours to read when it moves, not the reader's of a server's log.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

NOTHING_ENABLED = """\
No data set is enabled in this home folder. In a terminal, with the same `FOOTPATH_HOME`:

    footpath run                          # the built-in shop, from files to feature store
    footpath datasets link NAME FOLDER    # a data set of `datasets/`, and where its files lie
    footpath datasets enable NAME         # one that is linked already

Then *Reload definitions* under *Deployment*. Data sets to choose from:

{names}
"""


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
        assets=with_code_references(_tagged(dataset, assets)),
        asset_checks=[days_check(dataset, daily_tables(dataset))],
        jobs=[*jobs, chain_job(dataset, lambda job: jobs_of(name)(job))],
        sensors=[automation_sensor(dataset, jobs), alerts_sensor(dataset)],
    )


def _tagged(dataset: Dataset, assets: list[dg.AssetsDefinition]) -> list:
    """Assets with their data set as a tag, by which the catalogue is searched."""
    return list(
        dg.map_asset_specs(
            lambda spec: spec.merge_attributes(tags={"footpath/dataset": dataset.slug}), assets
        )
    )


@contextmanager
def open_runner(dataset: Dataset, resources: dict | None = None) -> Iterator[StageRunner]:
    """Opens the instance of the home folder, and runs stages of a data set in this process."""
    with open_instance() as instance:
        yield StageRunner(dataset, instance, jobs_of(dataset.name), resources)


def jobs_of(name: str) -> Callable[[str], dg.JobDefinition]:
    """Jobs of a data set by their names, whether it is enabled or not."""
    return code_location([name]).resolve_job_def


def code_location(names: Iterable[str]) -> dg.Definitions:
    """Definitions of some data sets, with all that they need."""
    found = list(configured(names))
    return dg.Definitions.merge(
        *(found or [_nothing_enabled()]),
        dg.Definitions(
            resources={"pipes": dg.PipesSubprocessClient(), "progress": Progress()},
            sensors=[dead_runs_sensor],
            executor=in_process_executor,
        ),
    )


def configured(names: Iterable[str]) -> Iterator[dg.Definitions]:
    """Yields the definitions of each data set, or one asset that says why it has none."""
    for name in names:
        try:
            yield dataset_definitions(name)
        except FootpathError as error:
            sys.stderr.write(f"data set '{name}' is left out: {error}\n")
            slug = re.sub(r"\W", "_", name)
            place = {"key": [slug, "left_out"], "group_name": f"{slug}_left_out"}
            yield dg.Definitions(assets=[dg.AssetSpec(**place, description=str(error))])


def _nothing_enabled() -> dg.Definitions:
    """An asset in the place of all others that says how they come."""
    description = NOTHING_ENABLED.format(names="\n".join(f"- `{n}`" for n in dataset_names()))
    asset = dg.AssetSpec("no_data_set_is_enabled", group_name="start_here", description=description)
    return dg.Definitions(assets=[asset])


defs = code_location(name for name in dataset_names() if is_enabled(name))
