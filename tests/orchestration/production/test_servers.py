"""Which servers a stack starts itself, what it writes of them, and who can read it."""

import stat
from pathlib import Path

import pytest

from orchestration.production.addresses import folder, read_addresses, write_private
from orchestration.production.servers import Ports, Server, own_servers
from orchestration.production.stack import configuration, dagster_servers

GIVEN = {
    "DAGSTER_POSTGRES_URL": "postgresql://db/dagster",
    "FOOTPATH_ONLINE_STORE": "redis://cache:6379/0",
    "FOOTPATH_LAKE": "s3://bucket/lake",
}


@pytest.fixture
def programs(lake_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH on which programs can be put; empty at first."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    folder().mkdir(parents=True)
    return path


def put(programs: Path, *names: str) -> None:
    for name in names:
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)


def started(given: dict, known: dict | None = None) -> tuple[dict[str, Server], list[str]]:
    lines: list[str] = []
    servers = own_servers(given, known or {}, Ports(), lines.append)
    return {server.name: server for server in servers}, lines


def test_what_has_an_address_or_no_program_is_not_started_and_a_line_says_so(programs: Path):
    servers, lines = started({})
    assert servers == {}
    assert lines == [
        "PostgreSQL: not started, postgres and initdb are not on the PATH; "
        "Dagster keeps its runs in SQLite",
        "Redis: not started, redis-server is not on the PATH; the online store is SQLite",
        "S3: not started, minio is not on the PATH; the lake is a folder",
    ]
    put(programs, "postgres", "initdb", "redis-server", "minio")
    servers, lines = started(GIVEN)
    assert servers == {}
    assert lines[0] == "PostgreSQL: as DAGSTER_POSTGRES_URL says"


def test_a_server_keeps_its_password_and_no_one_else_can_read_it(programs: Path):
    put(programs, "redis-server")
    servers, _ = started({})
    password = servers["redis"].variables["FOOTPATH_REDIS_PASSWORD"]
    again, _ = started({}, servers["redis"].variables)
    assert again["redis"].variables == servers["redis"].variables
    config = folder() / "redis" / "redis.conf"
    assert f"requirepass {password}\n" in config.read_text()
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert not any(password in part for part in servers["redis"].command)
    text = configuration([*servers.values(), *dagster_servers(Ports(), "127.0.0.1")])
    assert password not in text


def test_the_lake_goes_to_s3_only_where_there_is_none_yet(programs: Path, lake_home: Path):
    put(programs, "minio")
    servers, _ = started({})
    variables = servers["s3"].variables
    assert variables["FOOTPATH_LAKE"] == "s3://footpath/lake"
    assert (folder() / "s3" / "footpath").is_dir()
    assert variables["AWS_SECRET_ACCESS_KEY"] == variables["MINIO_ROOT_PASSWORD"]
    (folder() / "s3" / "footpath").rmdir()
    (folder() / "s3").rmdir()
    (lake_home / "lake").mkdir()
    servers, lines = started({})
    assert servers == {}
    assert lines[-1] == f"S3: not started, the lake in {lake_home / 'lake'} has data already"


def test_addresses_are_read_as_they_were_written_by_their_owner_alone(programs: Path):
    path = folder() / "environment"
    write_private(path, "ONE=a=b\nTWO=c%d\n")
    write_private(path, "ONE=a=b\nTWO=c%d\n")
    assert read_addresses() == {"ONE": "a=b", "TWO": "c%d"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_command_with_blanks_and_percents_reaches_supervisord_whole(programs: Path):
    from supervisor.options import ServerOptions

    server = Server("redis", ["/opt/a b/redis-server", "/data/100%/redis.conf"])
    path = folder() / "supervisord.conf"
    write_private(path, configuration([server]))
    (folder() / "log").mkdir()
    options = ServerOptions()
    options.realize(["-c", str(path)])
    ((program,),) = [group.process_configs for group in options.process_group_configs]
    assert program.command == "'/opt/a b/redis-server' /data/100%/redis.conf"
    assert program.autorestart
