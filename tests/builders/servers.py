"""PostgreSQL and Redis as a production stack runs them, of a test's own, which it may kill."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.production.addresses import LAKE, ONLINE, ONLINE_PASSWORD, REGISTRY, folder
from orchestration.production.servers import Ports, Server, own_servers
from tests.builders.stack import open_folder
from tests.redis_server import free_port


class Running:
    """A server that runs until it is killed, and again after it was.

    Args:
      server: a prepared one.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.start()

    def start(self) -> None:
        """Starts it, again and again as a supervisor does, and waits until it answers."""
        account = self.server.account
        user = {"user": account, "group": account, "extra_groups": []} if account else {}
        end = time.monotonic() + 60
        while True:
            self._process = subprocess.Popen(
                self.server.command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True, **user,
            )  # fmt: skip
            while self._process.poll() is None:
                if _answers(self.server):
                    return
                time.sleep(0.05)
            assert time.monotonic() < end, f"{self.server.name} does not start"

    def kill(self) -> None:
        """Kills it and its workers, as if the power had gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _answers(server: Server) -> bool:
    """Whether it answers: a port is open before that."""
    import psycopg
    import redis

    given = server.variables
    try:
        if server.name == "postgres":
            psycopg.connect(given[REGISTRY], connect_timeout=3).close()
        else:
            redis.Redis.from_url(given[ONLINE], password=given[ONLINE_PASSWORD]).ping()
    except (psycopg.OperationalError, redis.ConnectionError):
        return False
    return True


@contextlib.contextmanager
def production_servers(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[Path, dict[str, Running]]]:
    """A home folder with PostgreSQL and Redis of its own, which the environment leads to.

    Skips the test where one of them is not installed.
    """
    with open_folder() as home, contextlib.ExitStack() as stack:
        monkeypatch.setenv("FOOTPATH_HOME", str(home))
        folder().mkdir(parents=True)
        ports = Ports(postgres=free_port(), redis=free_port())
        lines: list[str] = []
        running = {}
        for server in own_servers({LAKE: "given"}, {}, ports, lines.append):
            running[server.name] = Running(server)
            stack.callback(running[server.name].kill)
            for name, value in server.variables.items():
                monkeypatch.setenv(name, value)
        if len(running) < 2:
            pytest.skip("; ".join(lines))
        yield home, running
