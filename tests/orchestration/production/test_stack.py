"""`footpath production`: a stack that goes on by itself whichever of its processes is killed."""

import contextlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
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
        """Waits for all processes; a stack that has ended never gets well."""

        def is_well() -> bool:
            assert self.process.poll() is None, self.tail()
            return self.health().returncode == 0

        wait_until(is_well, self.tail, every=2.0)

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

    def has_succeeded(self, run_id: str) -> bool:
        """Whether a run has; False while the database is down and nobody knows."""
        with contextlib.suppress(AttributeError):
            found = asked(f"http://127.0.0.1:{self.port}/graphql", STATUS, id=run_id)
            return found["status"] == "SUCCESS"
        return False

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
        if stack.process.poll() is None:
            processes = psutil.Process(stack.process.pid).children(recursive=True)
            stack.stop()
            assert psutil.wait_procs(processes, timeout=10)[1] == []


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the account of PostgreSQL can reach, where root runs the tests."""
    with tempfile.TemporaryDirectory(prefix="footpath-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.mark.long
def test_a_queued_run_goes_on_after_code_server_and_daemon_are_killed(tmp_path: Path):
    with (
        new_database() as address,
        running(tmp_path, DAGSTER_POSTGRES_URL=address) as stack,
    ):
        run_id = stack.launch("shop_tables")
        stack.kill("code", "daemon")
        assert "down  code: " in stack.health().stdout
        wait_until(lambda: stack.has_succeeded(run_id), stack.tail)
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
@pytest.mark.timeout(1800)
def test_a_stack_with_its_own_servers_survives_the_death_of_each_and_of_all(open_folder: Path):
    for program in ("initdb", "redis-server"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not on the PATH")
    with running(open_folder) as stack:
        assert "PostgreSQL: started here" in stack.log.read_text()
        servers, ours = ("postgres", "redis"), ("code", "webserver", "daemon")
        for names in (servers, ("webserver",), servers + ours):
            run_id = stack.launch("shop_tables")
            stack.kill(*names)
            wait_until(lambda run_id=run_id: stack.has_succeeded(run_id), stack.tail)
            stack.wait_until_well()
        secret = (open_folder / "production" / "environment").read_text()
        (password,) = re.findall(r"FOOTPATH_REDIS_PASSWORD=(\S+)", secret)
        titles = [
            " ".join(found.info["cmdline"] or ()) for found in psutil.process_iter(["cmdline"])
        ]
        assert not any(password in title for title in titles)
        for path in (open_folder / "production").rglob("*"):
            if path.is_file() and password.encode() in path.read_bytes():
                assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
