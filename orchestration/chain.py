"""The whole chain of a data set: every stage in order, each as one Dagster run or several.

`footpath run` and the `<dataset>_chain` job both come here, so that the terminal and the UI do the
same thing and see the same runs.
"""

import datetime as dt
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count

import dagster as dg

from contracts.base.clock import day_window, now
from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.versions import all_versions
from orchestration.partitions import add_requested, cell, parse_day
from orchestration.promotion.candidates import versions_to_serve
from orchestration.runs.dead_runs import process_tags
from orchestration.runs.failures import NOTHING_SAID, failure_sentence
from orchestration.runs.pools import held_pools, wait_for_queue
from orchestration.tags import CHAIN, STAGE, WHAT, range_tags
from orchestration.write_audit_publish import EVERY_DAY

# In the order in which they run.
STAGES = (
    "tables", "landing", "daily", "inputs", "pretraining", "evaluation", "embedding", "serving",
)  # fmt: skip


class WholeChain(dg.Config):
    """Which days; by default all that the data set has."""

    first_day: str = ""
    last_day: str = ""
    as_of: str = ""  # of labels and training; by default the last that leaves tasks their horizon
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
    within: str = ""  # id of the run that they are stages of; it has its place in the queue


def run_chain(runner: StageRunner, config: WholeChain, say: Callable[[str], None]) -> None:
    """Runs every stage of a data set.

    Raises:
      DaysStoppedError: the gate has stopped some of the days; every stage has run on the others.
      FootpathError: a stage failed; what was published before stays. Or there is no such stage.
    """
    if config.until and config.until not in STAGES:
        raise FootpathError(f"there is no stage '{config.until}': they are {', '.join(STAGES)}")
    stopped: DaysStoppedError | None = None
    chain, numbers = {CHAIN: uuid.uuid4().hex[:8]}, count(1)
    for name in STAGES:
        config = settled(runner.dataset, config, name)
        try:
            run_step(runner, config, name, chain, lambda line: say(_numbered(line, numbers)))
        except DaysStoppedError as error:
            stopped = error
        if name == config.until:
            break
    if stopped:
        raise stopped


def _numbered(line: str, numbers: Iterator[int]) -> str:
    return line if line.startswith(" ") else f"{next(numbers)}. {line}"


def run_step(
    runner: StageRunner,
    config: WholeChain,
    name: str,
    tags: dict[str, str],
    say: Callable[[str], None],
) -> None:
    """Runs one of the STAGES, tagged as part of a chain.

    Raises:
      DaysStoppedError: the gate has stopped some of the days; the others are published.
      FootpathError: a run failed; what was published before stays.
    """
    stopped: DaysStoppedError | None = None
    for stage in stages_of(runner.dataset, config, name):
        started = time.monotonic()
        say(stage.title)
        try:
            rows = run_stage(runner, replace(stage, tags=tags))
            made = ", ".join(f"{name} {rows:,}" for name, rows in rows.items())
            say(f"   {time.monotonic() - started:.1f} s{f'; rows: {made}' if made else ''}")
        except DaysStoppedError as error:
            say(f"   {time.monotonic() - started:.1f} s; without the days that the gate stopped")
            stopped = error
    if stopped:
        raise stopped


def settled(dataset: Dataset, config: WholeChain, name: str) -> WholeChain:
    """The same choices with their days written out, as far as they are known before a stage.

    All later stages then mean the same days, whatever comes meanwhile.

    Raises:
      FootpathError: there is no such day, or none that has ended, or too few of events.
    """
    from features.ingestion.listing import arrival_days
    from features.learning.labels import default_as_of

    if not (config.first_day and config.last_day):
        arrivals = [] if config.last_day else arrival_days(dataset)
        first, last = _days(dataset, config, arrivals)
        config = config.model_copy(update={"first_day": str(first), "last_day": str(last)})
    if not config.as_of and STAGES.index(name) > STAGES.index("daily"):
        as_of = default_as_of(dataset, Lake.of(dataset.name))
        config = config.model_copy(update={"as_of": str(as_of)})
    return config


def stages_of(dataset: Dataset, config: WholeChain, name: str) -> list[Stage]:
    """The runs of one of the STAGES, by choices that are settled."""
    if name == "tables":
        return [Stage(name, "Catalog and users")] if dataset.items or dataset.users else []
    if name == "serving":
        return [Stage(name, "Feature store: registry, online rows, similar users")]
    first, last, as_of = config.first_day, config.last_day, config.as_of
    span = f"{first} to {last}"
    if name == "landing":
        if not dataset.landing.is_dated:
            return [Stage(name, "Landing files")]
        return [Stage(name, f"Landing files of {span}", first, last)]
    if name == "daily":
        title = f"Events, sessions, behavior features of {span}"
        return [Stage(name, title, first, last)]
    settings = {"as_of": as_of, "seed": config.seed}
    if name == "inputs":
        return [Stage(name, f"Labels and training sequences as of {as_of}", as_of, as_of)]
    if name == "pretraining":
        recipes = dataset.learning.recipes
        title = f"Pre-training and task models: {', '.join(recipes)}"
        settings = _op_config(dataset, {"pretrained_encoder": settings})
        return [Stage(name, title, recipes[0], recipes[-1], settings)]
    if name == "evaluation":
        settings = _op_config(dataset, {"task_baselines": settings})
        stage = Stage(name, "Baselines and leaderboard", config=settings)
        return [stage] if dataset.daily_tasks else []
    # The day with which the features end: one service gives both. And training sets of labels as
    # of their day want vectors of then too.
    versions = versions_to_serve(dataset, lake := Lake.of(dataset.name))
    named = [each.version for each in all_versions(lake) if each.version in versions]
    return [
        Stage(
            name,
            f"User embeddings of {day} by {', '.join(named)}",
            cell(day, named[0]),
            cell(day, named[-1]),
        )
        for day in dict.fromkeys([as_of, last])
        if named
    ]


def _days(dataset: Dataset, config: WholeChain, arrivals: list[dt.date]) -> tuple[dt.date, dt.date]:
    """First and last day to build: as asked, or all that have ended."""
    first = _asked(config.first_day) or dataset.partitions.start
    last = _asked(config.last_day) or _last_day(dataset, arrivals)
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


def _asked(text: str) -> dt.date | None:
    return parse_day(text) if text else None


def run_stage(runner: StageRunner, stage: Stage) -> dict[str, int]:
    """Runs one stage and returns the rows of every asset that it has made.

    Raises:
      DaysStoppedError: the gate has stopped some of the days, and the others are published.
      FootpathError: it failed; what was published before stays.
    """
    run_id = str(uuid.uuid4())
    tags = process_tags(run_id) | {STAGE: stage.job} | (stage.tags or {})
    if stage.title:
        tags[WHAT] = stage.title[:200]
    if stage.first and stage.last:
        tags |= range_tags(stage.first, stage.last)
        add_requested(runner.instance, runner.dataset, stage.job, stage.first, stage.last)
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    job = runner.job_of(f"{runner.dataset.slug}_{stage.job}")
    if not runner.within:
        wait_for_queue(runner.instance, _tell)
    try:
        with held_pools(runner.instance, run_id, job.graph.pools, _tell):
            result = job.execute_in_process(
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


def _tell(line: str) -> None:
    """A line for whoever waits at the terminal, or reads the output of the run."""
    sys.stderr.write(f"   {line}\n")
    sys.stderr.flush()


def _op_config(dataset: Dataset, by_asset: dict[str, dict]) -> dict:
    return {
        "ops": {
            f"{dataset.slug}__{asset}": {"config": settings} for asset, settings in by_asset.items()
        }
    }
