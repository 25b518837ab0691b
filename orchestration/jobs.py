"""The jobs of a data set: one a stage, and one for the whole chain."""

from collections.abc import Callable, Iterator

import dagster as dg

from contracts.config.dataset import Dataset
from orchestration.chain import (
    STAGES,
    DaysStoppedError,
    StageRunner,
    WholeChain,
    run_step,
    settled,
)
from orchestration.stages import job_name, stage_assets
from orchestration.tags import CHAIN, STAGE, WHAT, gpu_tags

# What each step of the chain makes, for the page of its job.
CHAIN_STEPS = {
    "tables": "Catalog and users.",
    "landing": "Landing files, cut by event day.",
    "daily": "Events, sessions and behavior features of each day.",
    "inputs": "Labels and training sequences as of a day.",
    "pretraining": "Pre-trained encoders and task models.",
    "evaluation": "Baselines and the leaderboard.",
    "embedding": "A vector a user, by every model version that is served.",
    "serving": "Feature store: registry, online rows, similar users.",
}

ON_GPU = ("pretraining", "evaluation", "comparison", "embedding")


def stage_jobs(dataset: Dataset) -> list:
    """Returns one job a stage, from landing to serving."""
    return [
        dg.define_asset_job(
            job_name(dataset, stage),
            selection=dg.AssetSelection.assets(*keys),
            description=f"{dataset.title}: {', '.join(key.path[-1] for key in keys)}",
            tags=gpu_tags() if stage in ON_GPU else None,
        )
        for stage, keys in stage_assets(dataset).items()
    ]


def chain_job(dataset: Dataset, job_of: Callable[[str], dg.JobDefinition]) -> dg.JobDefinition:
    """Job that runs the whole chain: an op a stage, each of which makes runs of its own."""

    @dg.op(name=f"{dataset.slug}_chain_settings")
    def settings(context: dg.OpExecutionContext, config: WholeChain) -> dict:
        """Which days, and which stage is the last: by default all."""
        context.instance.add_run_tags(context.run_id, {CHAIN: context.run_id[:8]})
        return settled(dataset, config, STAGES[0]).model_dump() | {"stopped": ""}

    def op_of(name: str) -> dg.OpDefinition:
        @dg.op(
            name=f"{dataset.slug}_chain_{name}",
            description=CHAIN_STEPS[name],
            out=dg.Out(dict, is_required=False),
        )
        def step(context: dg.OpExecutionContext, chosen: dict) -> Iterator[dg.Output]:
            stopped = chosen.pop("stopped")
            config = settled(dataset, WholeChain(**chosen), name)
            runner = StageRunner(dataset, context.instance, job_of, within=context.run_id)
            tags = {CHAIN: context.run_id[:8]}
            try:
                run_step(runner, config, name, tags, context.log.info)
            except DaysStoppedError as error:
                stopped = str(error)
            made = context.instance.get_runs(dg.RunsFilter(tags=tags | {STAGE: name}))
            links = {r.tags.get(WHAT, name): dg.MetadataValue.dagster_run(r.run_id) for r in made}
            if name not in (config.until, STAGES[-1]):
                yield dg.Output(config.model_dump() | {"stopped": stopped}, metadata=links)
            elif stopped:
                raise dg.Failure(stopped, metadata=links, allow_retries=False)

        return step

    @dg.job(
        name=job_name(dataset, "chain"),
        description=f"{dataset.title}: the whole chain, from landing files to the feature store.",
    )
    def chain() -> None:
        chosen = settings.alias("settings")()
        for name in STAGES:
            chosen = op_of(name).alias(name)(chosen)

    return chain
