"""Late data: what lands files that are new, and rebuilds the published days that they make due.

In:  landing files and the lake. Out: requests for runs of the landing job and of the daily job,
each over one range of days. Both sensors are off until someone turns them on, and ask for nothing
twice: what failed on the same data is told, not tried again.
"""

import datetime as dt
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_json
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from orchestration.chain import Stage, StageRunner, run_stage
from orchestration.partitions import days
from orchestration.promotion import versions_to_serve
from orchestration.retries import RETRIES
from orchestration.tags import FAILURE_REASON, MAX_RETRIES, NEW_FILES, REBUILD, range_tags

if TYPE_CHECKING:
    from features.ingestion.listing import Arrival
    from features.staleness import StaleDays

# Days that one run rebuilds: the rest follows.
MAX_DAYS = 60

NOTHING_DUE = "every published day is built from the data that has landed"

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def rebuild_sensor(dataset: Dataset, landing: str, daily: Any) -> dg.SensorDefinition:
    """Sensor that requests the rebuild of days that late data has made due.

    Args:
      dataset: whose days.
      landing: the name of the landing job; nothing is requested while it runs, or the daily one.
      daily: the job that builds events, sessions and features.
    """

    @dg.sensor(
        name=f"{dataset.slug}_rebuild_late_days",
        job=daily,
        minimum_interval_seconds=60,
        description=f"Rebuilds published days whose landing files have changed since, at most "
        f"{MAX_DAYS} days a run.",
    )
    def rebuild_late_days(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from features.staleness import find_stale, lake_state

        lake = Lake.of(dataset.name)
        state = lake_state(lake)
        if reason := _known(context, state):
            return _skip(reason, context.cursor)
        if run := _unfinished(context.instance, [landing, daily.name]):
            return _skip(f"run {run} is at work on these days; looking again when it has ended")
        closure = find_stale(dataset, lake)
        if not closure.days:
            return _skip(NOTHING_DUE, _cursor(state, NOTHING_DUE))
        first, last = closure.span(MAX_DAYS)
        key = closure.key(first, last)
        earlier = _earlier(context.instance, {REBUILD: key})
        if earlier.run_id:
            reason = (
                f"{tell_due(closure)}, and run {earlier.run_id} did not rebuild {first} to {last}: "
                f"{earlier.advice}, then `footpath rebuild --dataset {dataset.name}`"
            )
            return _skip(reason, _cursor(state, reason))
        return _request(earlier, key, range_tags(first, last) | {REBUILD: key})

    return rebuild_late_days


def new_files_sensor(dataset: Dataset, landing: Any) -> dg.SensorDefinition:
    """Sensor that requests the landing of files that no manifest knows."""

    @dg.sensor(
        name=f"{dataset.slug}_new_files",
        job=landing,
        minimum_interval_seconds=60,
        description="Lands files that are new or have changed, whichever day they arrived on.",
    )
    def new_files(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from features.ingestion.landing import new_arrivals

        try:
            arrivals = _finished_arrivals(dataset)
        except FootpathError as error:
            return _skip(str(error))
        state = _state_of(dataset, arrivals)
        if reason := _known(context, state):
            return _skip(reason, context.cursor)
        if run := _unfinished(context.instance, [landing.name]):
            return _skip(f"run {run} is landing files; looking again when it has ended")
        new = new_arrivals(dataset, Lake.of(dataset.name), arrivals)
        if not new:
            reason = "every landing file of a finished day has landed"
            return _skip(reason, _cursor(state, reason))
        key = _state_of(dataset, new)
        earlier = _earlier(context.instance, {NEW_FILES: key})
        if earlier.run_id:
            more = f" and {len(new) - 1:,} more files" if len(new) > 1 else ""
            reason = (
                f"run {earlier.run_id} did not land {new[0].file.path}{more}: {earlier.advice}, "
                f"then materialize landing"
            )
            return _skip(reason, _cursor(state, reason))
        span = _arrival_span(new)
        tags = {NEW_FILES: key} | (range_tags(*span) if span else {})
        return _request(earlier, key, tags)

    return new_files


def tell_due(closure: "StaleDays") -> str:
    """Returns how many days of each table are due, as a sentence without its end."""
    counts = [
        f"{len(of_table):,} days of {table}"
        for table, of_table in closure.reasons.items()
        if of_table
    ]
    return f"{', '.join(counts)} are due ({closure.days[0]} to {closure.days[-1]})"


def rebuild_all(runner: StageRunner, max_days: int, say: Callable[[str], None]) -> None:
    """Lands what is new, rebuilds all that is due, range by range, and then what is made from it.

    Raises:
      FootpathError: a run failed; what was published before stays.
    """
    from features.ingestion.landing import new_arrivals
    from features.staleness import find_stale

    dataset = runner.dataset
    lake = Lake.of(dataset.name)
    if new := new_arrivals(dataset, lake, _finished_arrivals(dataset)):
        say(f"{len(new):,} landing files are new: landing them")
        span = _arrival_span(new)
        stage = Stage("landing", "", *map(str, span)) if span else Stage("landing", "")
        run_stage(runner, stage)
    begun: dt.date | None = None
    done: set[str] = set()
    while (closure := find_stale(dataset, lake)).days:
        first, last = closure.span(max_days)
        key = closure.key(first, last)
        assert key not in done, f"{first} to {last} was rebuilt and is due as before"
        done.add(key)
        begun = min(begun or first, first)
        say(f"{tell_due(closure)}: rebuilding {first} to {last}")
        stage = Stage("daily", "", str(first), str(last), tags={REBUILD: key})
        rows = run_stage(runner, stage)
        say("   rows: " + ", ".join(f"{name} {count:,}" for name, count in rows.items()))
    if begun is None:
        say(NOTHING_DUE)
        return
    keys = list(stale_embeddings(dataset, lake, begun))
    for key in keys:
        say(f"embedding {key}")
        run_stage(runner, Stage("embedding", "", key, key))
    if keys:
        say("feature store: registry, online rows, similar users")
        run_stage(runner, Stage("serving", ""))


def stale_embeddings(dataset: Dataset, lake: Lake, first: dt.date) -> Iterator[str]:
    """Yields the partitions of published embeddings from a day on, of versions that are served."""
    for version in versions_to_serve(dataset, lake):
        for day in lake.days(f"user_embeddings/{version}"):
            if day >= first:
                yield str(dg.MultiPartitionKey({"day": str(day), "model_version": version}))


def _finished_arrivals(dataset: Dataset) -> "list[Arrival]":
    """Landing files there are, but those of today: it has no partition before it ends.

    Raises:
      FootpathError: there is no file, or one has an impossible date in its name.
    """
    from features.ingestion.listing import find_arrivals

    arrivals = find_arrivals(dataset, None)
    if not dataset.landing.is_dated:
        return arrivals
    finished = set(days(dataset).get_partition_keys())
    return [arrival for arrival in arrivals if str(arrival.day) in finished]


def _arrival_span(arrivals: "list[Arrival]") -> tuple[dt.date, dt.date] | None:
    """First and last arrival day; None where the source is not dated."""
    arrived = [arrival.day for arrival in arrivals if arrival.day]
    return (min(arrived), max(arrived)) if arrived else None


def _unfinished(instance: dg.DagsterInstance, jobs: list[str]) -> str | None:
    """Id of a run of these jobs that has not ended."""
    for job in jobs:
        found = instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED), limit=1)
        if found:
            return found[0].run_id
    return None


@dataclass(frozen=True)
class Earlier:
    """What became of earlier runs of the same request."""

    run_id: str | None  # the last one, where the request is not to be made again
    advice: str
    killed: int  # runs whose process died


def _earlier(instance: dg.DagsterInstance, tags: dict[str, str]) -> Earlier:
    """Looks at earlier runs with these tags: a refusal is final, a death is not at once."""
    found = instance.get_runs(dg.RunsFilter(tags=tags))
    killed = sum(
        run.status == dg.DagsterRunStatus.FAILURE
        and run.tags.get(FAILURE_REASON) in (None, "UNEXPECTED_TERMINATION")
        for run in found
    )
    if killed < len(found):
        return Earlier(found[0].run_id, "mend what it complains of", killed)
    if killed > RETRIES:
        advice = f"its process was killed, {killed} times in a row: look at the memory of its host"
        return Earlier(found[0].run_id, advice, killed)
    return Earlier(None, "", killed)


def _request(earlier: Earlier, key: str, tags: dict[str, str]) -> dg.SensorResult:
    """Requests a run, under another key where one of this key was killed."""
    run_key = f"{key}/{earlier.killed}" if earlier.killed else key
    # The sensor itself asks again, so that Dagster need not.
    return dg.SensorResult([dg.RunRequest(run_key=run_key, tags=tags | {MAX_RETRIES: "0"})])


def _state_of(dataset: Dataset, arrivals: "list[Arrival]") -> str:
    """Hash of landing files as they lie there, and of how they are read."""
    from features.ingestion.manifest import mapping_hash

    files = [[arrival.file.path, arrival.file.size, arrival.file.stamp] for arrival in arrivals]
    return hash_json([mapping_hash(dataset), files])


def _known(context: dg.SensorEvaluationContext, state: str) -> str | None:
    """Returns what was said of this state the last time."""
    seen = json.loads(context.cursor) if context.cursor else {}
    return seen.get("said") if seen.get("state") == state else None


def _cursor(state: str, said: str) -> str:
    return json.dumps({"state": state, "said": said})


def _skip(reason: str, cursor: str | None = None) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=dg.SkipReason(reason), cursor=cursor)
