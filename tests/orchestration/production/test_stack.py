"""`footpath production`: a stack that goes on by itself whichever of its processes is killed."""

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from features.shop import generate_shop
from tests.conftest import REPOSITORY
from tests.orchestration.conftest import clean_environment
from tests.orchestration.test_backfill_live import asked
from tests.postgres import new_database
from tests.redis_server import free_port

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]

LAUNCH = """
mutation ($run: ExecutionParams!) {
  launchPipelineExecution(executionParams: $run) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


class Stack:
    """A stack on its own home folder and ports."""

    def __init__(self, home: Path, **variables: str) -> None:
        self.home, self.port = home, free_port()
        self.environment = clean_environment(home) | variables
        self.log = home / "stack.log"
        ports = [f"--{name}-port={free_port()}" for name in ("code", "postgres", "redis", "s3")]
        self.process = subprocess.Popen(
            self._command("orchestration.cli.main", "production", f"--port={self.port}", *ports),
            cwd=REPOSITORY,
            env=self.environment,
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-W", "ignore", "-m", *arguments]

    def health(self) -> subprocess.CompletedProcess:
        command = self._command("orchestration.production.health")
        return subprocess.run(
            command, cwd=REPOSITORY, env=self.environment, capture_output=True, text=True
        )

    def wait_until_well(self) -> None:
        wait_until(lambda: self.health().returncode == 0, self.tail, every=2.0)

    def tail(self) -> str:
        logs = [self.log, *(self.home / "production" / "log").glob("*.log")]
        return "\n".join(f"{log}:\n{log.read_text()[-1500:]}" for log in logs if log.exists())

    def pid(self, name: str) -> int:
        """Process id that supervisord gave last."""
        spawned = re.findall(rf"spawned: '{name}' with pid (\d+)", self.log.read_text())
        return int(spawned[-1])

    def kill(self, *names: str) -> None:
        for name in names:
            os.kill(self.pid(name), signal.SIGKILL)

    def launch(self, job: str) -> str:
        selector = {
            "repositoryLocationName": "footpath",
            "repositoryName": "__repository__",
            "pipelineName": job,
        }
        launched = asked(
            f"http://127.0.0.1:{self.port}/graphql",
            LAUNCH,
            run={"selector": selector, "runConfigData": {}, "mode": "default"},
        )
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return launched["run"]["runId"]

    def status(self, run_id: str) -> str:
        return asked(f"http://127.0.0.1:{self.port}/graphql", STATUS, id=run_id)["status"]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=120)


def wait_until(
    is_so: Callable[[], bool], tell: Callable[[], str], every: float = 0.5, seconds: float = 300
) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, tell()
        time.sleep(every)


@contextlib.contextmanager
def running(home: Path, **variables: str) -> Iterator[Stack]:
    """A stack whose shop has files to land."""
    generate_shop(home / "source", users=50, days=2)
    stack = Stack(home, **variables, FOOTPATH_SOURCE_SHOP=str(home / "source"))
    try:
        stack.wait_until_well()
        yield stack
    finally:
        processes = psutil.Process(stack.process.pid).children(recursive=True)
        stack.stop()
        assert psutil.wait_procs(processes, timeout=10)[1] == []


def test_a_queued_run_goes_on_after_code_server_and_daemon_are_killed(tmp_path: Path):
    with (
        new_database() as address,
        running(tmp_path, DAGSTER_POSTGRES_URL=address) as stack,
    ):
        run_id = stack.launch("shop_tables")
        stack.kill("code", "daemon")
        assert "down  code: " in stack.health().stdout
        wait_until(lambda: stack.status(run_id) == "SUCCESS", stack.tail)
        stack.wait_until_well()
        log = stack.log.read_text()
        assert log.count("spawned: 'code'") == log.count("spawned: 'daemon'") == 2
        assert "PostgreSQL: as DAGSTER_POSTGRES_URL says" in log
        again = subprocess.run(
            stack._command("orchestration.cli.main", "production"),
            cwd=REPOSITORY,
            env=stack.environment,
            capture_output=True,
            text=True,
        )
        assert again.returncode == 1
        assert f"runs already, as process {stack.process.pid}" in again.stderr


@pytest.mark.long
def test_a_stack_with_its_own_servers_survives_the_death_of_each_process_and_of_all(tmp_path: Path):
    with running(tmp_path) as stack:
        assert "PostgreSQL: started here" in stack.log.read_text()
        ours = ("postgres", "redis", "code", "webserver", "daemon")
        for names in (*[(name,) for name in ours], ours):
            run_id = stack.launch("shop_tables")
            stack.kill(*names)
            wait_until(lambda run_id=run_id: stack.status(run_id) == "SUCCESS", stack.tail)
            stack.wait_until_well()
        secret = (tmp_path / "production" / "environment").read_text()
        (password,) = re.findall(r"FOOTPATH_REDIS_PASSWORD=(\S+)", secret)
        titles = [" ".join(process.cmdline()) for process in psutil.process_iter()]
        assert not any(password in title for title in titles)
        for path in (tmp_path / "production").rglob("*"):
            if path.is_file() and password.encode() in path.read_bytes():
                assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
