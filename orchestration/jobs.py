"""What runs together: the jobs of a data set, its daily schedule, and what follows a day."""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator

import dagster as dg

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from orchestration.chain import StageRunner, WholeChain, run_chain
from orchestration.partitions import days
from orchestration.promotion import versions_to_serve
from orchestration.rebuild import new_files_sensor, rebuild_sensor, stale_embeddings
from orchestration.tags import FIRST_PARTITION, LAST_PARTITION, PARTITION, REBUILD

# The stages of the chain, in order. A job holds assets of one partitioning: Dagster's rule.
LANDING = ["landing"]
TABLES = ["items", "users"]
DAILY = ["events", "sessions", "user_behavior_features"]
INPUTS = ["labels", "training_sequences"]
SERVING = ["feature_registry", "online_features", "similar_users_index"]


def job_name(dataset: Dataset, stage: str) -> str:
    """Name of a data set's job."""
    return f"{dataset.slug}_{stage}"


def stage_jobs(dataset: Dataset, assets: list[dg.AssetsDefinition]) -> list:
    """Returns one job a stage, from landing to serving."""
    task_models = [f"finetuned_{task.name}" for task in dataset.daily_tasks]
    stages = {
        "landing": LANDING,
        "tables": TABLES,
        "daily": DAILY,
        "inputs": INPUTS,
        "pretraining": ["pretrained_encoder", *task_models],
        "evaluation": ["task_baselines", "leaderboard"],
        "comparison": ["comparison"],
        "embedding": ["user_embeddings"],
        "serving": SERVING,
    }
    present = {key.path[-1] for asset in assets for key in asset.keys}
    return [
        dg.define_asset_job(
            job_name(dataset, stage),
            selection=dg.AssetSelection.assets(
                *[dg.AssetKey([dataset.slug, name]) for name in names if name in present]
            ),
            description=f"{dataset.title}: {', '.join(n for n in names if n in present)}",
        )
        for stage, names in stages.items()
        if any(name in present for name in names)
    ]


def chain_job(dataset: Dataset, job_of: Callable[[str], dg.JobDefinition]) -> dg.JobDefinition:
    """Job that runs every stage of the data set, each as a run of its own."""

    @dg.op(name=f"{dataset.slug}_whole_chain")
    def whole_chain(context: dg.OpExecutionContext, config: WholeChain) -> None:
        run_chain(StageRunner(dataset, context.instance, job_of), config, context.log.info)

    @dg.job(
        name=job_name(dataset, "chain"),
        description=f"{dataset.title}: the whole chain, from landing files to the feature store.",
    )
    def chain() -> None:
        whole_chain()

    return chain


def schedules(dataset: Dataset, jobs: list) -> list:
    """Daily schedule of a source that goes on: landing, then everything of the day."""
    if dataset.partitions.end or not dataset.landing.is_dated:
        return []
    by_name = {job.name: job for job in jobs}
    return [
        dg.build_schedule_from_partitioned_job(
            by_name[job_name(dataset, stage)],
            name=f"{dataset.slug}_{stage}_every_day",
            hour_of_day=1,
            minute_of_hour=minute,
        )
        for stage, minute in (("landing", 0), ("daily", 30))
    ]


def sensors(dataset: Dataset, jobs: list) -> list[dg.SensorDefinition]:
    """Returns what lands new files and rebuilds late days, and what embeds and serves a day."""
    by_name = {job.name: job for job in jobs}
    embedding = by_name[job_name(dataset, "embedding")]
    serving = by_name[job_name(dataset, "serving")]

    @dg.run_status_sensor(
        name=f"{dataset.slug}_embed_finished_days",
        run_status=dg.DagsterRunStatus.SUCCESS,
        monitored_jobs=[by_name[job_name(dataset, "daily")]],
        request_job=embedding,
    )
    def embed_finished_days(context: dg.RunStatusSensorContext) -> Iterator[dg.RunRequest]:
        """Embeds the last day of a finished daily run by every model version that is served.

        After a rebuild of late days, it embeds again every day from the first of them on.
        """
        lake, tags = Lake.of(dataset.name), context.dagster_run.tags
        keys: Iterable[str] = ()
        day = tags.get(PARTITION) or tags.get(LAST_PARTITION)
        if REBUILD in tags:
            first = dt.date.fromisoformat(tags[FIRST_PARTITION])
            keys = stale_embeddings(dataset, lake, first)
        elif day and day in days(dataset).get_partition_keys():
            versions = versions_to_serve(dataset, lake)
            keys = [str(dg.MultiPartitionKey({"day": day, "model_version": v})) for v in versions]
        for key in keys:
            yield dg.RunRequest(run_key=f"{context.dagster_run.run_id}/{key}", partition_key=key)

    @dg.run_status_sensor(
        name=f"{dataset.slug}_serve_new_embeddings",
        run_status=dg.DagsterRunStatus.SUCCESS,
        monitored_jobs=[embedding],
        request_job=serving,
    )
    def serve_new_embeddings(context: dg.RunStatusSensorContext) -> dg.RunRequest:
        """Registers and materializes what an embedding run has made."""
        return dg.RunRequest(run_key=context.dagster_run.run_id)

    return [
        new_files_sensor(dataset, by_name[job_name(dataset, "landing")]),
        rebuild_sensor(dataset, job_name(dataset, "landing"), by_name[job_name(dataset, "daily")]),
        embed_finished_days,
        serve_new_embeddings,
    ]
