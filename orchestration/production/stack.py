"""The production stack of one machine: supervisord keeps its processes running.

    code         definitions over gRPC; the runs are its children
    webserver    the UI
    daemon       schedules, sensors, backfills, the queue
    serve        features over HTTP, of all enabled data sets, on the loopback
    postgres, redis, s3    where their programs are on the PATH and no address is given

In:  the environment, which every process inherits, and ports. Out: this process becomes
supervisord, with its configuration, logs and control socket in `<home>/production`.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from contracts.base.errors import FootpathError
from contracts.base.locks import locked
from contracts.lake.layout import home
from orchestration.instance import REPOSITORY, prepare_instance
from orchestration.production.addresses import (
    CODE_HOST,
    CODE_PORT,
    SERVICE,
    WEBSERVER,
    WEBSERVER_MODULE,
    folder,
    read_addresses,
    write_private,
)
from orchestration.production.servers import LOOPBACK, Ports, Server, own_servers

MARK = "FOOTPATH_STACK"  # in the environment of every process of a home's stack
DRAIN_SECONDS = (
    20  # for runs in flight to end; then they are killed, and go on after the next start
)
SOCKET_PATH = 90  # bytes; Linux allows 107, and supervisord adds its process id

CONFIG = """\
; Written anew at each start.
[supervisord]
nodaemon = true
umask = {umask:03o}
directory = {repository}
logfile = {folder}/log/supervisord.log
pidfile = {folder}/supervisord.pid
childlogdir = {folder}/log
{user}
[unix_http_server]
file = {folder}/control
chmod = 0700

[supervisorctl]
serverurl = unix://{folder}/control

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""

# What ends soon after its start is tried again after 1, 2, 3, ... seconds; the rest at once.
PROGRAM = """
[program:{name}]
command = {command}
priority = {priority}
autorestart = true
startsecs = 10
startretries = 1000000
stopsignal = {signal}
stopwaitsecs = {wait}
killasgroup = true
redirect_stderr = true
stdout_logfile = {folder}/log/{name}.log
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 3
{user}"""


def start_stack(ports: Ports, host: str, say: Callable[[str], None]) -> None:
    """Prepares what is missing and becomes supervisord.

    Raises:
      FootpathError: the stack of this home runs already, or a server could not be prepared.
    """
    home().mkdir(parents=True, exist_ok=True)
    folder().mkdir(mode=0o700, exist_ok=True)
    (folder() / "log").mkdir(mode=0o700, exist_ok=True)
    if len(os.fsencode(folder() / "control")) > SOCKET_PATH:
        raise FootpathError(
            f"the path {folder()} is too long for a socket: set FOOTPATH_HOME to a shorter one"
        )
    with locked(folder() / "lock", f"another `footpath production` starts in {home()}"):
        if (pid := _running()) is not None:
            raise FootpathError(
                f"the stack of {home()} runs already, as process {pid}: stop it with `kill {pid}`"
            )
        for left in _end_leftovers():
            say(f"ended {left}, which an earlier stack had left")
        known = read_addresses()
        servers = [*own_servers(os.environ, known, ports, say)]
        found = {name: value for server in servers for name, value in server.variables.items()}
        found |= {CODE_HOST: LOOPBACK, CODE_PORT: str(ports.code)}
        found[WEBSERVER] = f"http://{host if host != '0.0.0.0' else LOOPBACK}:{ports.ui}"  # noqa: S104
        found[SERVICE] = f"http://{LOOPBACK}:{ports.serve}"
        os.environ.update(found)
        os.environ[MARK] = str(home())
        os.environ.setdefault("PYTHONWARNINGS", "ignore")
        prepare_instance()
        found["DAGSTER_HOME"] = os.environ["DAGSTER_HOME"]
        write_private(
            folder() / "environment", "".join(f"{name}={value}\n" for name, value in found.items())
        )
        programs = [*servers, *dagster_servers(ports, host), feature_server(ports)]
        write_private(folder() / "supervisord.conf", configuration(programs))
    say(f"UI: {found[WEBSERVER]}; logs: {folder() / 'log'}; Ctrl-C stops everything")
    sys.stdout.flush()
    command = [sys.executable, "-m", "supervisor.supervisord"]
    os.execv(sys.executable, [*command, "-c", str(folder() / "supervisord.conf")])  # noqa: S606


def dagster_servers(ports: Ports, host: str) -> Iterator[Server]:
    """Dagster's own processes."""
    python = [sys.executable, "-m"]
    workspace = ["-w", str(REPOSITORY / "deploy" / "workspace.yaml")]
    definitions = ["-m", "orchestration.definitions", "--location-name", "footpath"]
    where = ["-h", LOOPBACK, "-p", str(ports.code)]
    yield Server("code", [*python, "dagster", "api", "grpc", *where, *definitions])
    where = ["-h", host, "-p", str(ports.ui)]
    yield Server("webserver", [*python, WEBSERVER_MODULE, *where, *workspace])
    yield Server("daemon", [*python, "dagster._daemon", "run", *workspace])


def feature_server(ports: Ports) -> Server:
    """The service of features, for this machine: a proxy or `footpath serve` asks for tokens."""
    command = [sys.executable, "-m", "orchestration.cli.main", "serve"]
    return Server("serve", [*command, "--host", LOOPBACK, "--port", str(ports.serve)])


# In the order of the start; they stop in the other.
PRIORITY = {
    "postgres": 10, "redis": 10, "s3": 10, "code": 20, "webserver": 30, "daemon": 30, "serve": 30,
}  # fmt: skip


def configuration(programs: list[Server]) -> str:
    """The configuration of supervisord; it holds no secret."""
    own = "user = root\n" if os.getuid() == 0 else ""
    umask = os.umask(0o077)  # what runs publish is for those who may read it today
    os.umask(umask)
    head = CONFIG.format(folder=_ini(folder()), repository=_ini(REPOSITORY), umask=umask, user=own)
    return head + "".join(_section(server) for server in programs)


def _section(server: Server) -> str:
    return PROGRAM.format(
        name=server.name,
        command=" ".join(_quoted(part) for part in server.command),
        priority=PRIORITY[server.name],
        signal=server.stop_signal,
        wait=DRAIN_SECONDS if server.name == "code" else 60,
        folder=_ini(folder()),
        user=f"user = {server.account}\n" if server.account else "",
    )


def _running() -> int | None:
    """Process id of the supervisord of this home."""
    for process in _marked():
        if "supervisor.supervisord" in " ".join(process.cmdline()):
            return process.pid
    return None


def _end_leftovers() -> Iterator[str]:
    """Ends what a supervisord that was killed has left running: it would hold the ports."""
    left = list(_marked())
    for process in left:
        yield f"process {process.pid} ({process.name()})"
        process.terminate()
    _, alive = psutil.wait_procs(left, timeout=10)
    for process in alive:
        process.kill()


def _marked() -> Iterator[psutil.Process]:
    """Processes of the stack of this home, but this one."""
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(home()):
                yield process
        except psutil.Error:
            continue  # of another user, or just ended


def _quoted(part: str) -> str:
    """An argument as supervisord's configuration takes it."""
    import shlex

    return _ini(shlex.quote(part))


def _ini(value: str | Path) -> str:
    return str(value).replace("%", "%%")
