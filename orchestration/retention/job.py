"""The job that cleans a data set; automation requests it once a day."""

import dagster as dg

from contracts.base.clock import now
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from orchestration.retention.clean import clean
from orchestration.retention.report import megabytes
from orchestration.stages import CLEANING, job_name


def cleaning_job(dataset: Dataset) -> dg.JobDefinition:
    """Job that removes what `automation.keep` does not keep, and logs what it keeps and why."""

    @dg.op(name=f"{dataset.slug}_clean_all")
    def clean_all(context: dg.OpExecutionContext) -> None:
        report = clean(dataset, Lake.of(dataset.name), context.instance, now())
        for line in report.lines:
            size = megabytes(line.bytes)
            context.log.info(f"{line.verdict} {line.count:,} {line.kind} ({size}): {line.why}")
        context.log.info(str(report))

    @dg.job(
        name=job_name(dataset, CLEANING),
        description=f"{dataset.title}: removes what nothing needs any more (`footpath clean`).",
    )
    def cleaning() -> None:
        clean_all()

    return cleaning
