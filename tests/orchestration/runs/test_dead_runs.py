"""Runs whose process was killed are found and ended; those of living processes go on."""

import gzip
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from features.shop import generate_shop
from orchestration.chain import Stage, run_stage
from orchestration.runs.dead_runs import dead_runs_sensor, end_dead_runs
from orchestration.runs.executor import in_process_executor
from orchestration.tags import BOOT, HOST, PROCESS
from tests.conftest import REPOSITORY
from tests.orchestration.test_kills import kill_when

TAGS_OF_A_CHILD = """
import sys
from orchestration.runs.dead_runs import process_tags
print(*process_tags(sys.argv[1]).values(), sep="|", flush=True)
sys.stdin.read()
"""


@dg.op
def nothing() -> None: ...


@dg.job(executor_def=in_process_executor)
def some_job() -> None:
    nothing()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


class Carrier:
    """A process that carries a run."""

    def __init__(self, instance: dg.DagsterInstance, **tags: str) -> None:
        self.run_id = str(uuid.uuid4())
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAGS_OF_A_CHILD, self.run_id],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        said = self.process.stdout.readline().strip().split("|")
        self.tags = dict(zip((HOST, BOOT, PROCESS), said, strict=True)) | tags
        self.instance = instance
        instance.create_run_for_job(
            some_job, run_id=self.run_id, tags=self.tags, status=dg.DagsterRunStatus.STARTED
        )

    def status(self) -> str:
        run = self.instance.get_run_by_id(self.run_id)
        assert run
        return run.status.value

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_the_run_of_a_killed_process_is_failed_with_a_sentence_and_that_of_a_living_one_is_not(
    instance: dg.DagsterInstance,
):
    carrier = Carrier(instance)
    try:
        assert end_dead_runs(instance) == []
        assert carrier.status() == "STARTED"
        carrier.process.kill()
        # Even while the parent has not taken note of the death.
        while not (said := end_dead_runs(instance)):
            pass
    finally:
        carrier.close()
    assert f"{carrier.process.pid} on " in said[0]
    assert carrier.status() == "FAILURE"
    events = [entry.dagster_event for entry in instance.all_logs(carrier.run_id)]
    assert said[0] in [event.message for event in events if event]
    assert end_dead_runs(instance) == []


def test_a_restart_of_the_machine_and_another_process_of_the_same_id_count_as_dead(
    instance: dg.DagsterInstance,
):
    carriers = [Carrier(instance, **{BOOT: "an earlier start"}), Carrier(instance)]
    try:
        pid, start, namespace, run_id = carriers[1].tags[PROCESS].split("/")
        earlier = f"{pid}/{int(start) - 1}/{namespace}/{run_id}"
        instance.add_run_tags(run_id, {PROCESS: earlier})
        assert len(end_dead_runs(instance)) == 2
    finally:
        for carrier in carriers:
            carrier.close()


def test_runs_of_other_hosts_and_retries_with_the_tags_of_a_dead_run_are_left_alone(
    instance: dg.DagsterInstance,
):
    carriers = [Carrier(instance, **{HOST: "another"}), Carrier(instance)]
    for carrier in carriers:
        carrier.close()
    instance.create_run_for_job(some_job, tags=carriers[1].tags, status=dg.DagsterRunStatus.STARTED)
    assert len(end_dead_runs(instance)) == 1
    assert carriers[0].status() == "STARTED"
    assert instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])) == 2


def test_a_run_that_the_daemon_launches_names_its_process_and_the_sensor_looks_at_it():
    with dg.instance_for_test() as instance:
        result = dg.execute_job(dg.reconstructable(some_job), instance)
        run = instance.get_run_by_id(result.run_id)
        assert run
        assert {HOST, BOOT, PROCESS} <= run.tags.keys()
        with dg.build_sensor_context(instance) as context:
            said = dead_runs_sensor(context)
        assert isinstance(said, dg.SkipReason)
        assert said.skip_message == "every run has its process"


@pytest.mark.timeout(300)
def test_after_a_killed_run_the_next_command_ends_it_and_the_sensors_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    source, home = tmp_path / "source", tmp_path / "home"
    generate_shop(source, users=50, days=14)
    assert kill_when(home, source, "events/", 1)
    monkeypatch.setenv("FOOTPATH_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    from contracts.config.dataset import load_dataset
    from orchestration.definitions import code_location, open_runner

    defs = code_location(["shop"])

    with open_runner(load_dataset("shop")) as runner:
        assert "was killed" in capfd.readouterr().err
        statuses = {run.job_name: run.status.value for run in runner.instance.get_runs()}
        assert statuses == {
            "shop_tables": "SUCCESS",
            "shop_landing": "SUCCESS",
            "shop_daily": "FAILURE",
        }
        changed = source / "events/2026-01-01/12.jsonl.gz"
        lines = gzip.decompress(changed.read_bytes()).splitlines(keepends=True)
        changed.write_bytes(gzip.compress(b"".join(lines[:-1])))

        def tick() -> list[dg.RunRequest]:
            with dg.build_sensor_context(runner.instance, definitions=defs) as context:
                ticked = defs.resolve_sensor_def("shop_automation").evaluate_tick(context)
            return list(ticked.run_requests or [])

        (request,) = tick()
        assert request.job_name == "shop_landing"
        first = request.tags["dagster/asset_partition_range_start"]
        last = request.tags["dagster/asset_partition_range_end"]
        run_stage(runner, Stage("landing", "", first, last))
        (request,) = tick()
        assert request.job_name == "shop_daily"
        assert request.tags["dagster/asset_partition_range_start"] == first
