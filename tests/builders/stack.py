"""`footpath production` on a home folder and ports of a test's own, and how to break it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from tests.conftest import REPOSITORY
from tests.orchestration.conftest import clean_environment
from tests.orchestration.test_backfill_live import asked
from tests.redis_server import free_port

LAUNCH = """
mutation ($run: ExecutionParams!) {
  launchPipelineExecution(executionParams: $run) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
PORTS = ("code", "serve", "postgres", "redis", "s3")
STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


class Stack:
    """A stack on its own home folder and ports.

    Args:
      home: the home folder.
      variables: of the environment.
    """

    def __init__(self, home: Path, **variables: str) -> None:
        self.home, self.port = home, free_port()
        home.mkdir(exist_ok=True)
        self.environment = clean_environment(home) | variables
        self.log = home / "stack.log"
        ports = [f"--{name}-port={free_port()}" for name in PORTS]
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

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        """Runs a module of the code as in another terminal, such as `orchestration.cli.main`."""
        return subprocess.run(
            self._command(*arguments),
            cwd=REPOSITORY,
            env=self.environment,
            capture_output=True,
            text=True,
        )

    def health(self) -> subprocess.CompletedProcess:
        """Asks all processes."""
        return self.run("orchestration.production.health")

    def wait_until_well(self) -> None:
        """Waits for all processes; a stack that has ended never gets well."""

        def is_well() -> bool:
            assert self.process.poll() is None, self.tail()
            return self.health().returncode == 0

        wait_until(is_well, self.tail, every=2.0)

    def tail(self) -> str:
        """The last lines of all logs."""
        logs = [self.log, *(self.home / "production" / "log").glob("*.log")]
        return "\n".join(f"{log}:\n{log.read_text()[-1500:]}" for log in logs if log.exists())

    def pid(self, name: str) -> int:
        """Process id that supervisord gave last."""
        spawned = re.findall(rf"spawned: '{name}' with pid (\d+)", self.log.read_text())
        return int(spawned[-1])

    def kill(self, *names: str) -> None:
        """Kills processes, as the system does where memory ends."""
        for name in names:
            os.kill(self.pid(name), signal.SIGKILL)

    def launch(self, job: str) -> str:
        """Launches a job as the UI does, and returns the id of its run."""
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
        """Stops all of it in order."""
        self.process.terminate()
        self.process.wait(timeout=120)


def wait_until(
    is_so: Callable[[], bool], tell: Callable[[], str], every: float = 0.5, seconds: float = 300
) -> None:
    """Waits until something is so, and fails with what is told where it never is."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, tell()
        time.sleep(every)


@contextlib.contextmanager
def running(home: Path, **variables: str) -> Iterator[Stack]:
    """A stack that is well; in the end nothing of it is left."""
    stack = Stack(home, **variables)
    try:
        stack.wait_until_well()
        yield stack
    finally:
        if stack.process.poll() is None:
            processes = psutil.Process(stack.process.pid).children(recursive=True)
            stack.stop()
            assert psutil.wait_procs(processes, timeout=10)[1] == []


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that the account of PostgreSQL can reach, where root runs the tests."""
    with tempfile.TemporaryDirectory(prefix="footpath-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)
