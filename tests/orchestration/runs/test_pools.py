"""Runs of the command line respect pools and the limit of the queue; who waits says for whom."""

import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from orchestration.runs.dead_runs import end_dead_runs
from orchestration.runs.executor import in_process_executor
from orchestration.runs.pools import held_pools, wait_for_queue
from tests.conftest import REPOSITORY

POOL = "some_pool"
# Holds the pool without a run, as a command does in the moment before it creates one.
HOLD = """
import sys, dagster as dg
from orchestration.instance import open_instance
from orchestration.runs.pools import held_pools
with open_instance() as instance, held_pools(instance, sys.argv[1], [sys.argv[2]], print):
    print("held", flush=True)
    sys.stdin.read()
"""


@dg.op(pool=POOL)
def in_pool() -> None: ...


@dg.job(executor_def=in_process_executor)
def pooled() -> None:
    in_pool()


@pytest.fixture
def instance(
    lake_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """An instance on files, as a laptop has it."""
    from orchestration.instance import prepare_instance

    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    prepare_instance()
    with dg.DagsterInstance.get() as instance:
        yield instance


class Holder:
    """Another process that holds a pool."""

    def __init__(self, pool: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", HOLD, str(uuid.uuid4()), pool],
            cwd=REPOSITORY,
            env=os.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "held\n"

    def let_go(self) -> None:
        self.process.communicate("")


def test_a_second_run_of_a_pool_waits_says_for_whom_and_goes_on(instance: dg.DagsterInstance):
    holder, lines, began = Holder(POOL), [], time.monotonic()
    threading.Timer(1.5, holder.let_go).start()
    with held_pools(instance, "mine", [POOL], lines.append):
        assert time.monotonic() - began > 1.4
        (slot,) = instance.event_log_storage.get_concurrency_info(POOL).claimed_slots
        assert slot.run_id == "mine"
    assert len(lines) == 1
    assert lines[0].startswith(f"waiting for pool {POOL}, which run ")
    assert not instance.event_log_storage.get_concurrency_info(POOL).claimed_slots


def test_a_pool_keeps_the_limit_that_somebody_gave_it(instance: dg.DagsterInstance):
    instance.event_log_storage.set_concurrency_slots(POOL, 3)
    with held_pools(instance, "mine", [POOL], print):
        assert instance.event_log_storage.get_concurrency_info(POOL).slot_count == 3


def test_a_run_that_the_daemon_launches_waits_for_the_command_line(instance: dg.DagsterInstance):
    holder = Holder(POOL)
    ended: list[bool] = []
    launched = threading.Thread(
        target=lambda: ended.append(dg.execute_job(dg.reconstructable(pooled), instance).success)
    )
    launched.start()
    while len(instance.event_log_storage.get_concurrency_info(POOL).pending_steps) < 2:
        time.sleep(0.1)
    (run,) = instance.get_runs()
    assert run.status == dg.DagsterRunStatus.STARTED
    assert not ended
    holder.let_go()
    launched.join()
    assert ended == [True]


def test_a_pool_whose_holder_was_killed_is_free_for_the_next(instance: dg.DagsterInstance):
    holder = Holder(POOL)
    holder.process.kill()
    holder.process.wait()
    with held_pools(instance, "mine", [POOL], print):
        pass
    assert end_dead_runs(instance) == []


def test_the_command_line_waits_while_the_queue_is_full(instance: dg.DagsterInstance):
    lines: list[str] = []
    runs = [
        instance.create_run_for_job(pooled, status=dg.DagsterRunStatus.STARTED) for _ in range(2)
    ]
    threading.Timer(1.5, lambda: instance.report_run_failed(runs[0])).start()
    began = time.monotonic()
    wait_for_queue(instance, lines.append)
    assert time.monotonic() - began > 1.4
    assert lines == ["waiting: 2 runs are in progress, as many as dagster.yaml allows"]


def test_landing_the_daily_tables_and_training_each_have_a_pool():
    from orchestration.definitions import jobs_of

    job_of = jobs_of("shop")
    pools = {stage: job_of(f"shop_{stage}").graph.pools for stage in ("landing", "daily")}
    assert pools == {"landing": {"shop_landing"}, "daily": {"shop_daily"}}
    assert "training" in job_of("shop_pretraining").graph.pools
