"""PostgreSQL, Redis and S3 of a production stack on one machine, where nobody gave an address.

In:  programs on the PATH and the ports they get. Out: a prepared data folder below
`<home>/production`, the command that runs the server, and the variables by which everyone finds it.
All listen on loopback and want a password, which is made once and kept in `production/environment`.
"""

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from contracts.base.errors import FootpathError
from contracts.lake.layout import home
from orchestration.production.addresses import (
    DAGSTER_URL,
    LAKE,
    ONLINE,
    ONLINE_PASSWORD,
    REGISTRY,
    S3_ENDPOINT,
    folder,
    write_private,
)

LOOPBACK = "127.0.0.1"
USER = "footpath"  # of PostgreSQL and S3
BUCKET = "footpath"
S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")


@dataclass(frozen=True)
class Server:
    """A program that supervisord keeps running."""

    name: str
    command: list[str]
    variables: dict[str, str] = field(default_factory=dict)  # by which everyone finds it
    stop_signal: str = "TERM"
    account: str = ""  # to run as, where that is not the one who starts the stack


@dataclass(frozen=True)
class Ports:
    """Ports on loopback; the system's own servers keep their usual ones."""

    ui: int = 3000
    code: int = 4266
    serve: int = 8600
    postgres: int = 5433
    redis: int = 6380
    s3: int = 9000


def own_servers(
    given: Mapping[str, str], known: Mapping[str, str], ports: Ports, say: Callable[[str], None]
) -> Iterator[Server]:
    """Prepares the servers that are to run here, and says of each why it does or does not.

    Args:
      given: the environment, without what an earlier start has written.
      known: what an earlier start has written: its passwords stay.
      ports: of the servers.
      say: gets a line a server.
    """
    for what, variables, prepare in (
        ("PostgreSQL", (DAGSTER_URL, REGISTRY), _postgres),
        ("Redis", (ONLINE,), _redis),
        ("S3", (LAKE, S3_ENDPOINT), _s3),
    ):
        taken = [name for name in variables if given.get(name)]
        missing = "" if taken else _why_not(what)
        if taken:
            say(f"{what}: as {' and '.join(taken)} says")
        elif missing:
            say(f"{what}: not started, {missing}")
        else:
            server = prepare(known, ports)
            say(f"{what}: started here, data in {folder() / server.name}")
            yield server


def _why_not(what: str) -> str:
    """Why a server is not started here; nothing if it can be."""
    programs = {"PostgreSQL": ["postgres", "initdb"], "Redis": ["redis-server"], "S3": ["minio"]}
    absent = [program for program in programs[what] if not shutil.which(program)]
    if absent:
        instead = {
            "PostgreSQL": "Dagster keeps its runs in SQLite",
            "Redis": "the online store is SQLite",
            "S3": "the lake is a folder",
        }
        verb = "is" if len(absent) == 1 else "are"
        return f"{' and '.join(absent)} {verb} not on the PATH; {instead[what]}"
    if what == "PostgreSQL" and os.getuid() == 0 and not _postgres_account():
        return "it does not run as root and there is no account postgres"
    if what == "S3" and (home() / "lake").exists() and not (folder() / "s3").exists():
        return f"the lake in {home() / 'lake'} has data already"
    return ""


def _postgres(known: Mapping[str, str], ports: Ports) -> Server:
    """Makes a cluster with a database for Dagster and one for the feature registry."""
    account, data = _postgres_account(), folder() / "postgres"
    password = _known_password(known.get(DAGSTER_URL, ""))
    if password and not (data / "PG_VERSION").exists():
        raise FootpathError(
            f"{data} is gone, and {folder() / 'environment'} has its password: "
            f"restore the folder from its backup, or remove both to begin anew"
        )
    if not password:
        password = _make_cluster(data, account)
    url = f"postgresql://{USER}:{password}@{LOOPBACK}:{ports.postgres}"
    # No socket: its path would be bounded, and its folder is often shared.
    listen = ["-h", LOOPBACK, "-p", str(ports.postgres), "-c", "unix_socket_directories="]
    return Server(
        "postgres",
        [_program("postgres"), "-D", str(data), *listen],
        {DAGSTER_URL: f"{url}/dagster", REGISTRY: f"{url}/feast"},
        stop_signal="INT",  # without waiting for those who are connected
        account=account,
    )


def _make_cluster(data: Path, account: str) -> str:
    """Runs initdb and creates the databases; returns the password of their owner."""
    shutil.rmtree(data, ignore_errors=True)  # of a start that was interrupted
    data.mkdir(mode=0o700)
    if account:
        shutil.chown(data, account, account)
        data.parent.chmod(0o711)
    password = secrets.token_urlsafe(24)
    word = data.with_name("postgres.password")  # initdb takes it from a file alone
    write_private(word, password)
    if account:
        shutil.chown(word, account)
    owner = ["-U", USER, f"--pwfile={word}", "--auth=scram-sha-256"]
    _as_account(account, ["initdb", "-D", str(data), *owner, "--encoding=UTF8", "--locale=C"])
    word.unlink()
    for database in ("dagster", "feast"):
        single = ["postgres", "--single", "-D", str(data), "postgres"]
        _as_account(account, single, f"CREATE DATABASE {database}\n")
    return password


def _as_account(account: str, command: list[str], text: str = "") -> None:
    """Runs a program of PostgreSQL, as another account where root has started the stack."""
    user = {"user": account, "group": account, "extra_groups": []} if account else {}
    done = subprocess.run(
        [_program(command[0]), *command[1:]],
        input=text, text=True, capture_output=True, cwd="/", check=False, **user,
    )  # fmt: skip
    if done.returncode:
        raise FootpathError(
            f"{command[0]} failed in {folder()}: {done.stderr.strip()[-500:]}"
            + (f" (it runs as {account}, who must be able to reach the folder)" if account else "")
        )


def _redis(known: Mapping[str, str], ports: Ports) -> Server:
    """Redis that keeps every write: an online store is not a cache."""
    data = folder() / "redis"
    data.mkdir(mode=0o700, exist_ok=True)
    password = known.get(ONLINE_PASSWORD) or secrets.token_urlsafe(24)
    settings = {
        "bind": LOOPBACK, "port": ports.redis, "dir": data, "appendonly": "yes",
        "requirepass": password,
        "set-proc-title": "no",  # which would overwrite the environment by which it is recognised
    }  # fmt: skip
    # In a file: a command line can be read by all.
    write_private(data / "redis.conf", "".join(f"{k} {v}\n" for k, v in settings.items()))
    return Server(
        "redis",
        [_program("redis-server"), str(data / "redis.conf")],
        {ONLINE: f"redis://{LOOPBACK}:{ports.redis}/0", ONLINE_PASSWORD: password},
    )


def _s3(known: Mapping[str, str], ports: Ports) -> Server:
    """MinIO over a folder, in which a folder is a bucket."""
    data = folder() / "s3"
    (data / BUCKET).mkdir(mode=0o700, parents=True, exist_ok=True)
    key, secret = USER, known.get(S3_KEYS[1]) or secrets.token_urlsafe(24)
    return Server(
        "s3",
        [_program("minio"), "server", str(data), "--address", f"{LOOPBACK}:{ports.s3}"],
        {
            S3_ENDPOINT: f"http://{LOOPBACK}:{ports.s3}",
            LAKE: f"s3://{BUCKET}/lake",
            **dict(zip(S3_KEYS, (key, secret, "us-east-1"), strict=True)),
            "MINIO_ROOT_USER": key,
            "MINIO_ROOT_PASSWORD": secret,
        },
    )


def _postgres_account() -> str:
    """The account that PostgreSQL runs as where root starts the stack; "" for one's own."""
    import pwd

    if os.getuid():
        return ""
    return next((entry.pw_name for entry in pwd.getpwall() if entry.pw_name == "postgres"), "")


def _known_password(url: str) -> str:
    return url.partition("@")[0].rpartition(":")[2] if url else ""


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found
    return found
