"""S3 servers on the loopback: moto's, which is quick, and a real one, Ceph's radosgw.

In:  FOOTPATH_TEST_S3 (an endpoint, with the AWS_* variables of its credentials), or the binaries on
     the PATH. Out: a running server with its credentials; what was started is ended by its pid.

    python -m tests.s3.server radosgw      # runs one until Ctrl-C, and prints its variables
"""

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.redis_server import free_port

GIVEN = "FOOTPATH_TEST_S3"
CEPH = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
READY_SECONDS = 90


class NoServerError(Exception):
    """There is no such server here; says why."""


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    kind: str
    endpoint: str
    key: str
    secret: str

    @property
    def variables(self) -> dict[str, str]:
        """The environment in which every client finds it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def client(self) -> Any:
        """Returns a boto3 client, which shares no code with what is tested."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2}),
        )


@dataclass
class _Processes:
    """What was started, each with a file for its output."""

    folder: Path
    running: list[subprocess.Popen] = field(default_factory=list)

    def start(self, *command: str) -> subprocess.Popen:
        with open(self.folder / f"{Path(command[0]).name}.out", "ab") as out:
            process = subprocess.Popen(
                command,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                preexec_fn=_die_with_parent,
            )
        self.running.append(process)
        return process

    def wait_until(self, ready: Callable[[], bool], what: str) -> None:
        """Waits until a server answers.

        Raises:
          NoServerError: it has ended, or does not answer in time.
        """
        until = time.monotonic() + READY_SECONDS
        while not ready():
            gone = next((p for p in self.running if p.poll() is not None), None)
            if gone or time.monotonic() > until:
                told = "".join(
                    "\n".join(path.read_text(errors="replace").splitlines()[-3:]) + "\n"
                    for path in sorted(self.folder.glob("*.out"))
                )
                why = f"{gone.args} has ended" if gone else f"no answer in {READY_SECONDS} s"
                raise NoServerError(f"{what}: {why}\n{told}")
            time.sleep(0.1)

    def end(self) -> None:
        """Ends all, the last one first: what it wrote is not kept, so nothing is flushed."""
        for process in reversed(self.running):
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()


def _die_with_parent() -> None:
    """Lets no server outlive a test run that is killed itself, on Linux."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG


def _answers(endpoint: str) -> bool:
    try:
        urllib.request.urlopen(endpoint, timeout=5).close()
    except urllib.error.HTTPError:
        return True  # it refuses us, but it is there
    except OSError:
        return False
    return True


@contextlib.contextmanager
def moto() -> Iterator[Server]:
    """Runs moto's server in a process of its own, so that it outlives a client that is killed."""
    if importlib.util.find_spec("moto") is None:
        raise NoServerError("moto is not installed: see requirements-dev.in")
    with _started() as processes:
        port = free_port()
        command = (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port))
        processes.start(*command)
        endpoint = f"http://127.0.0.1:{port}"
        processes.wait_until(lambda: _answers(endpoint), "moto")
        yield Server("moto", endpoint, "test", "testtest")


@contextlib.contextmanager
def radosgw() -> Iterator[Server]:
    """Gives the server of FOOTPATH_TEST_S3; else runs Ceph: a monitor, a store in memory, radosgw.

    Raises:
      NoServerError: neither is there.
    """
    if endpoint := os.environ.get(GIVEN):
        if not _answers(endpoint):
            raise NoServerError(f"nobody answers at {endpoint}, which {GIVEN} names")
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        yield Server("given", endpoint, *(os.environ.get(name, "") for name in names))
        return
    if missing := [name for name in CEPH if not shutil.which(name)]:
        raise NoServerError(
            f"{GIVEN} is not set, and {', '.join(missing)} of Ceph is not on the PATH"
        )
    with _started() as processes:
        yield _ceph(processes)


@contextlib.contextmanager
def _started() -> Iterator[_Processes]:
    folder = Path(tempfile.mkdtemp(prefix="footpath-s3-"))
    processes = _Processes(folder)
    try:
        yield processes
    finally:
        processes.end()
        shutil.rmtree(folder, ignore_errors=True)


CONFIGURATION = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_port}/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {folder}/keyring
auth allow insecure global id reclaim = false
run dir = {folder}
admin socket = {folder}/$name.asok
crash dir = {folder}
log file = {folder}/$name.log
mon cluster log file = {folder}/cluster.log
pid file =
mon data avail crit = 1
mon data avail warn = 1
mon allow pool size one = true
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 2
osd pool default pgp num = 2
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 8589934592
rgw dns name = 127.0.0.1
rgw data = {folder}/rgw
rgw enable usage log = false
rgw enable ops log = false
rgw enable gc threads = false
rgw enable lc threads = false
rgw run sync thread = false
rgw thread pool size = 32
"""

KEYS = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
    "osd.0": {"mon": "allow profile osd", "osd": "allow *", "mgr": "allow profile osd"},
    "client.rgw": {"mon": "allow rwx", "osd": "allow rwx"},
}


def _ceph(processes: _Processes) -> Server:
    """Starts the daemons one after the other; each asks the one before it."""
    folder = processes.folder
    ceph_conf, keyring, monmap = (str(folder / name) for name in ("ceph.conf", "keyring", "monmap"))
    mon_port, port = free_port(), free_port()
    fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
    text = CONFIGURATION.format(fsid=fsid, mon_port=mon_port, folder=folder)
    Path(ceph_conf).write_text(text)

    def call(*command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise NoServerError(f"{' '.join(command[:2])}: {done.stderr.strip()[-500:]}")

    call("ceph-authtool", "--create-keyring", keyring)
    for name, caps in KEYS.items():
        given = [word for daemon, cap in caps.items() for word in ("--cap", daemon, cap)]
        call("ceph-authtool", keyring, "--gen-key", "-n", name, *given)
    address = f"[v2:127.0.0.1:{mon_port}/0]"
    call("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monmap)
    mon = ("ceph-mon", "-c", ceph_conf, "-i", "a", "--mon-data", f"{folder}/mon")
    call(*mon, "--mkfs", "--monmap", monmap, "--keyring", keyring)
    processes.start(*mon, "-f", "--keyring", keyring)
    ceph = ("ceph", "-c", ceph_conf, "--connect-timeout", "30")
    # The monitor takes no daemon whose id it did not give: both must be told the same one.
    call(*ceph, "osd", "new", osd)
    store = ("ceph-osd", "-c", ceph_conf, "-i", "0", "--osd-data", f"{folder}/osd")
    (folder / "osd").mkdir()
    call(*store, "--mkfs", "--osd-uuid", osd)
    processes.start(*store, "-f", "--keyring", keyring)
    name = ("-c", ceph_conf, "-n", "client.rgw")
    frontend = f"--rgw_frontends=beast endpoint=127.0.0.1:{port}"
    processes.start("radosgw", *name, "-f", frontend)
    endpoint = f"http://127.0.0.1:{port}"
    processes.wait_until(lambda: _answers(endpoint), "radosgw")
    user = ("--uid", "test", "--display-name", "test", "--access-key", "test")
    call("radosgw-admin", "-c", ceph_conf, "user", "create", *user, "--secret-key", "testtest")
    return Server("radosgw", endpoint, "test", "testtest")


KINDS = {"moto": moto, "radosgw": radosgw}


def main() -> None:
    """Runs a server until it is interrupted."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with KINDS[sys.argv[1]]() as server:
        for variable, value in server.variables.items():
            print(f"export {variable}={value}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
