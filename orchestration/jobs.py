"""The jobs of a data set: one a stage, and one for the whole chain."""

from collections.abc import Callable

import dagster as dg

from contracts.config.dataset import Dataset
from orchestration.chain import StageRunner, WholeChain, run_chain
from orchestration.stages import job_name, stage_assets


def stage_jobs(dataset: Dataset) -> list:
    """Returns one job a stage, from landing to serving."""
    return [
        dg.define_asset_job(
            job_name(dataset, stage),
            selection=dg.AssetSelection.assets(*keys),
            description=f"{dataset.title}: {', '.join(key.path[-1] for key in keys)}",
        )
        for stage, keys in stage_assets(dataset).items()
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
