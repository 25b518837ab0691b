"""Pools and the limit of the queue, for runs that Dagster's queue does not start.

In:  the pools of a run. Out: they are held while it runs, by the slots that Dagster shows under
Deployment > Concurrency. The queue looks at pools when it starts a run, and a run of the command
line has no queue: so both kinds hold slots as they begin, and whoever comes second waits.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import dagster as dg

from contracts.base.locks import locked
from orchestration.runs.dead_runs import ALIVE, is_dead, process_tags
from orchestration.tags import BOOT, HOST, PROCESS

SECONDS = 1.0  # between two looks
IN_PROGRESS = [status for status in ALIVE if status != dg.DagsterRunStatus.NOT_STARTED]


@contextlib.contextmanager
def held_pools(
    instance: dg.DagsterInstance, run_id: str, pools: Iterable[str], say: Callable[[str], None]
) -> Iterator[None]:
    """Holds a slot of each pool, and waits for those that are taken.

    Args:
      instance: whose pools.
      run_id: of the run that takes them, which need not be created yet.
      pools: their names.
      say: gets a line that says who has a pool that is waited for.
    """
    holder = _holder(run_id)
    storage = instance.event_log_storage
    try:
        # In one order for all, so that no two wait for each other.
        for pool in sorted(pools) if _by_run(instance) else ():
            # A pool that is known keeps its limit, which somebody may have raised.
            if _has_limit(instance, pool) or storage.initialize_concurrency_limit_to_default(pool):
                _claim(instance, run_id, holder, pool, say)
        yield
    finally:
        storage.free_concurrency_slot_for_step(run_id, holder)


def wait_for_queue(instance: dg.DagsterInstance, say: Callable[[str], None]) -> None:
    """Waits while as many runs are in progress as the queue may start."""
    queue = instance.get_concurrency_config().run_queue_config
    most = queue.max_concurrent_runs if queue else -1
    told = False
    while most >= 0 and instance.get_runs_count(dg.RunsFilter(statuses=IN_PROGRESS)) >= most:
        if not told:
            say(f"waiting: {most} runs are in progress, as many as dagster.yaml allows")
        told = True
        time.sleep(SECONDS)


def _claim(
    instance: dg.DagsterInstance, run_id: str, holder: str, pool: str, say: Callable[[str], None]
) -> None:
    told = ""
    while True:
        # SQLite gives a slot to two who ask at once.
        with locked(Path(instance.root_directory) / "pools.lock"):
            claim = instance.event_log_storage.claim_concurrency_slot(pool, run_id, holder)
        if claim.is_claimed:
            return
        _free_dead_claims(instance, pool)
        if (found := _holders(instance, pool)) and found != told:
            say(f"waiting for pool {pool}, which {found} has")
            told = found
        time.sleep(SECONDS)


def _holders(instance: dg.DagsterInstance, pool: str) -> str:
    """Who has the slots of a pool, in words."""
    names = []
    for slot in instance.event_log_storage.get_concurrency_info(pool).claimed_slots:
        run = instance.get_run_by_id(slot.run_id)
        what = f"run {slot.run_id[:8]} ({run.job_name})" if run else f"run {slot.run_id[:8]}"
        tags = _tags_of(slot.step_key)
        names.append(f"{what} on {tags[HOST]}" if tags else what)
    return " and ".join(names)


def _free_dead_claims(instance: dg.DagsterInstance, pool: str) -> None:
    """Frees what processes of this host held when they were killed.

    Dagster frees the slots of runs that have ended; a process that was killed before it created its
    run has none.
    """
    info = instance.event_log_storage.get_concurrency_info(pool)
    for claim in [*info.claimed_slots, *info.pending_steps]:
        if is_dead(_tags_of(claim.step_key), claim.run_id):
            instance.event_log_storage.free_concurrency_slot_for_step(claim.run_id, claim.step_key)


def _holder(run_id: str) -> str:
    """What stands in the place of a step's name: the process, so that its death can be seen."""
    tags = process_tags(run_id)
    return "|".join(tags[name] for name in (HOST, BOOT, PROCESS))


def _tags_of(holder: str) -> dict[str, str]:
    parts = holder.split("|")
    return dict(zip((HOST, BOOT, PROCESS), parts, strict=True)) if len(parts) == 3 else {}


def _by_run(instance: dg.DagsterInstance) -> bool:
    """Whether pools bound runs; where they bound steps, each step holds its own."""
    granularity = instance.event_log_storage.get_pool_config().pool_granularity
    return bool(granularity) and granularity.value == "run"


def _has_limit(instance: dg.DagsterInstance, pool: str) -> bool:
    return pool in instance.event_log_storage.get_concurrency_keys()
