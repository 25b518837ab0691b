"""The whole chain of a data set: every stage in order, each as one Dagster run.

`footpath run` and the `<dataset>_chain` job both come here, so that the terminal and the UI do the
same thing and see the same runs.
"""

import datetime as dt
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import dagster as dg

from contracts.base.clock import day_window, now
from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from orchestration.dead_runs import process_tags
from orchestration.failures import NOTHING_SAID, failure_sentence
from orchestration.promotion import leader, versions_to_serve
from orchestration.tags import range_tags
from orchestration.write_audit_publish import EVERY_DAY

# In the order in which they run.
STAGES = (
    "tables", "landing", "daily", "inputs", "pretraining", "evaluation", "embedding", "serving",
)  # fmt: skip


class WholeChain(dg.Config):
    """Which days and which recipes; by default all that the data set has."""

    first_day: str = ""
    last_day: str = ""
    seed: int = 0
    until: str = ""  # the last stage to run, such as daily; by default all of them


class DaysStoppedError(FootpathError):
    """The gate has stopped some of the days of a run; the others are published."""


@dataclass(frozen=True)
class Stage:
    """One run: a job, and the partitions that it builds."""

    job: str
    title: str
    first: str | None = None
    last: str | None = None
    config: dict | None = None
    tags: dict[str, str] | None = None


@dataclass(frozen=True)
class StageRunner:
    """Where the stages of a data set run.

    The jobs are handed in: the definitions that hold them import the chain.
    """

    dataset: Dataset
    instance: dg.DagsterInstance
    job_of: Callable[[str], dg.JobDefinition]  # by its name
    resources: dict | None = None  # in the place of those that the job has


def run_chain(runner: StageRunner, config: WholeChain, say: Callable[[str], None]) -> None:
    """Runs every stage of a data set.

    Raises:
      DaysStoppedError: the gate has stopped some of the days; every stage has run on the others.
      FootpathError: a stage failed; what was published before stays. Or there is no such stage.
    """
    if config.until and config.until not in STAGES:
        raise FootpathError(f"there is no stage '{config.until}': they are {', '.join(STAGES)}")
    stopped: DaysStoppedError | None = None
    for number, stage in enumerate(_stages(runner.dataset, config), start=1):
        started = time.monotonic()
        say(f"{number}. {stage.title}")
        try:
            rows = run_stage(runner, stage)
            made = ", ".join(f"{name} {count:,}" for name, count in rows.items())
            say(f"   {time.monotonic() - started:.1f} s{f'; rows: {made}' if made else ''}")
        except DaysStoppedError as error:
            say(f"   {time.monotonic() - started:.1f} s; without the days that the gate stopped")
            stopped = error
        if stage.job == config.until:
            break
    if stopped:
        raise stopped


def _stages(dataset: Dataset, config: WholeChain) -> Iterator[Stage]:
    """Yields the stages; the later ones look at what the earlier ones have made."""
    from features.ingestion.listing import arrival_days
    from features.learning.labels import default_as_of

    lake = Lake.of(dataset.name)
    first, last = _days(dataset, config, arrival_days(dataset))
    span = f"{first} to {last}"
    if dataset.items or dataset.users:
        yield Stage("tables", "Catalog and users")
    if dataset.landing.is_dated:
        yield Stage("landing", f"Landing files of {span}", str(first), str(last))
    else:
        yield Stage("landing", "Landing files")
    yield Stage("daily", f"Events, sessions, behavior features of {span}", str(first), str(last))
    as_of = str(default_as_of(dataset, lake))
    yield Stage("inputs", f"Labels and training sequences as of {as_of}", as_of, as_of)
    learning = dataset.learning
    settings = {"as_of": as_of, "seed": config.seed}
    yield Stage(
        "pretraining",
        f"Pre-training and task models: {', '.join(learning.recipes)}",
        learning.recipes[0],
        learning.recipes[-1],
        _op_config(dataset, {"pretrained_encoder": settings}),
    )
    if dataset.daily_tasks:
        settings = _op_config(dataset, {"task_baselines": settings})
        yield Stage("evaluation", "Baselines and leaderboard", config=settings)
    for version in versions_to_serve(dataset, lake):
        # The day with which the features end: one service gives both.
        key = str(dg.MultiPartitionKey({"day": str(last), "model_version": version}))
        yield Stage("embedding", f"User embeddings of {last} by {version}", key, key)
    # Training sets of labels as of that day want vectors of then too.
    best = leader(dataset, lake, is_embedded=False)
    if best and as_of != str(last):
        key = str(dg.MultiPartitionKey({"day": as_of, "model_version": best.version}))
        yield Stage("embedding", f"User embeddings of {as_of} by {best.version}", key, key)
    yield Stage("serving", "Feature store: registry, online rows, similar users")


def _days(dataset: Dataset, config: WholeChain, arrivals: list[dt.date]) -> tuple[dt.date, dt.date]:
    """First and last day to build: as asked, or all that have ended."""
    first = _day(config.first_day) or dataset.partitions.start
    last = _day(config.last_day) or _last_day(dataset, arrivals)
    while last and last >= first and day_window(last, dataset.timezone)[1] > now():
        last -= dt.timedelta(days=1)
    if last is None or last < first:
        raise FootpathError(
            f"data set '{dataset.name}' has no finished day from {first} on: "
            f"look at partitions.start and landing.url of its YAML"
        )
    return first, last


def _last_day(dataset: Dataset, arrivals: list[dt.date]) -> dt.date | None:
    """Last day that can have events, the tail of a source whose files run ahead too."""
    end = dataset.partitions.end
    if not arrivals:
        return end
    last = arrivals[-1] + dt.timedelta(days=max(dataset.landing.ahead_days - 1, 0))
    return min(last, end) if end else last


def _day(text: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text) if text else None
    except ValueError:
        raise FootpathError(f"'{text}' is not a day: write it as 2026-01-31") from None


def run_stage(runner: StageRunner, stage: Stage) -> dict[str, int]:
    """Runs one stage and returns the rows of every asset that it has made.

    Raises:
      DaysStoppedError: the gate has stopped some of the days, and the others are published.
      FootpathError: it failed; what was published before stays.
    """
    run_id = str(uuid.uuid4())
    tags = process_tags(run_id) | (stage.tags or {})
    if stage.first and stage.last:
        tags |= range_tags(stage.first, stage.last)
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    try:
        result = runner.job_of(f"{runner.dataset.slug}_{stage.job}").execute_in_process(
            instance=runner.instance,
            run_config={**quiet, **(stage.config or {})},
            tags=tags,
            run_id=run_id,
            raise_on_error=False,
            resources=runner.resources,
        )
    except dg.DagsterExecutionInterruptedError:
        raise KeyboardInterrupt from None
    if not result.success:
        failed = {event.step_key for event in result.all_events if event.is_step_failure}
        partial = failed == {f"{runner.dataset.slug}_{EVERY_DAY}"}
        said = failure_sentence(result.all_events)
        raise (DaysStoppedError if partial else FootpathError)(said or NOTHING_SAID)
    rows: dict[str, int] = {}
    for event in result.get_asset_materialization_events():
        made = event.step_materialization_data.materialization
        if count := made.metadata.get("dagster/row_count"):
            rows[made.asset_key.path[-1]] = rows.get(made.asset_key.path[-1], 0) + int(count.value)
    return rows


def _op_config(dataset: Dataset, by_asset: dict[str, dict]) -> dict:
    return {
        "ops": {
            f"{dataset.slug}__{asset}": {"config": settings} for asset, settings in by_asset.items()
        }
    }
