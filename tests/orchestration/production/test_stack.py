"""`footpath production`: a stack that goes on by itself whichever of its processes is killed."""

import contextlib
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from features.shop import generate_shop
from tests.builders.stack import Stack, open_folder, running, wait_until
from tests.postgres import new_database

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]


@contextlib.contextmanager
def shop_running(home: Path, **variables: str) -> Iterator[Stack]:
    """A stack whose shop has files to land."""
    generate_shop(home / "source", users=50, days=2)
    with running(home, **variables, FOOTPATH_SOURCE_SHOP=str(home / "source")) as stack:
        yield stack


@pytest.mark.long
def test_a_queued_run_goes_on_after_code_server_and_daemon_are_killed(tmp_path: Path):
    with (
        new_database() as address,
        shop_running(tmp_path, DAGSTER_POSTGRES_URL=address) as stack,
    ):
        run_id = stack.launch("shop_tables")
        stack.kill("code", "daemon")
        assert "down  code: " in stack.health().stdout
        wait_until(lambda: stack.has_succeeded(run_id), stack.tail)
        stack.wait_until_well()
        log = stack.log.read_text()
        assert log.count("spawned: 'code'") == log.count("spawned: 'daemon'") == 2
        assert "PostgreSQL: as DAGSTER_POSTGRES_URL says" in log
        again = stack.run("orchestration.cli.main", "production")
        assert again.returncode == 1
        assert f"runs already, as process {stack.process.pid}" in again.stderr


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_stack_with_its_own_servers_survives_the_death_of_each_and_of_all():
    for program in ("initdb", "redis-server"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not on the PATH")
    with open_folder() as home, shop_running(home) as stack:
        assert "PostgreSQL: started here" in stack.log.read_text()
        servers, ours = ("postgres", "redis"), ("code", "webserver", "daemon")
        for names in (servers, ("webserver",), servers + ours):
            run_id = stack.launch("shop_tables")
            stack.kill(*names)
            wait_until(lambda run_id=run_id: stack.has_succeeded(run_id), stack.tail)
            stack.wait_until_well()
        secret = (home / "production" / "environment").read_text()
        (password,) = re.findall(r"FOOTPATH_REDIS_PASSWORD=(\S+)", secret)
        titles = [
            " ".join(found.info["cmdline"] or ()) for found in psutil.process_iter(["cmdline"])
        ]
        assert not any(password in title for title in titles)
        for path in (home / "production").rglob("*"):
            if path.is_file() and password.encode() in path.read_bytes():
                assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
