"""Health of the stack's processes: the one check of people, supervisors and probes.

    python -m orchestration.production.health             # all of them
    python -m orchestration.production.health daemon      # or webserver, code, serve

In:  FOOTPATH_WEBSERVER, FOOTPATH_CODE_HOST, FOOTPATH_CODE_PORT, FOOTPATH_SERVICE (where that is
unset, nobody asks the feature server). Out: a line each; exit code 1 if one is down. It imports
little: a probe runs it every few seconds.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from orchestration.production.addresses import (
    CODE_HOST,
    CODE_PORT,
    SERVICE,
    WEBSERVER,
    use_addresses,
)

SECONDS = 5  # to wait for an answer
SILENT = 120.0  # seconds; a daemon beats every 30

QUERY = """{
  instance { daemonHealth { allDaemonStatuses { required lastHeartbeatTime } } }
  workspaceOrError {
    ... on Workspace { locationEntries { locationOrLoadError { __typename } } }
  }
}"""


@dataclass(frozen=True)
class Health:
    """What one process of the stack answered."""

    name: str
    is_well: bool
    said: str


def check_health(names: list[str] | None = None) -> Iterator[Health]:
    """Asks the processes of the stack, all of them if none is named."""
    known = [name for name in CHECKS if name != "serve" or os.environ.get(SERVICE)]
    for name in names or known:
        try:
            yield Health(name, True, CHECKS[name]())
        except (OSError, RuntimeError, ValueError, LookupError) as error:
            yield Health(name, False, str(error) or type(error).__name__)


def _code() -> str:
    """Asks the code server by the protocol of gRPC health checks, as Kubernetes' probes do."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    address = f"{os.environ.get(CODE_HOST, '127.0.0.1')}:{os.environ.get(CODE_PORT, '4266')}"
    request = health_pb2.HealthCheckRequest(service="DagsterApi")
    try:
        with grpc.insecure_channel(address) as channel:
            reply = health_pb2_grpc.HealthStub(channel).Check(request, timeout=SECONDS)
    except grpc.RpcError as error:
        raise RuntimeError(f"no answer from {address} ({error.code().name})") from None
    if reply.status != health_pb2.HealthCheckResponse.SERVING:
        raise RuntimeError(f"{address} does not serve yet")
    return f"serves on {address}"


def _webserver() -> str:
    """Asks the webserver whether it sees the code server's definitions."""
    for entry in _asked()["workspaceOrError"]["locationEntries"]:
        found = (entry["locationOrLoadError"] or {}).get("__typename")
        if found != "RepositoryLocation":
            raise RuntimeError(f"{_webserver_url()} answers, and has no definitions ({found})")
    return f"answers on {_webserver_url()}"


def _daemon() -> str:
    """Asks the webserver when the daemon was last heard of."""
    statuses = _asked()["instance"]["daemonHealth"]["allDaemonStatuses"]
    beats = [status["lastHeartbeatTime"] or 0.0 for status in statuses if status["required"]]
    age = time.time() - max(beats, default=0.0)
    if age > SILENT:
        raise RuntimeError(f"silent for more than {SILENT:.0f} s")
    return f"heartbeat {age:.0f} s ago"


def _serve() -> str:
    """Asks the feature server; one that has no feature registry yet is well, too."""
    address = os.environ.get(SERVICE, "http://127.0.0.1:8600")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{address}/health", timeout=SECONDS) as reply:
            faults = json.load(reply)["faults"]
    except urllib.error.HTTPError as error:
        faults = json.load(error)["faults"]
    return f"answers on {address}" + "".join(f"; {fault}" for fault in faults)


def _asked() -> dict:
    body = json.dumps({"query": QUERY}).encode()
    request = urllib.request.Request(  # noqa: S310
        f"{_webserver_url()}/graphql", body, {"Content-Type": "application/json"}
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=SECONDS) as reply:
        return json.load(reply)["data"]


def _webserver_url() -> str:
    return os.environ.get(WEBSERVER, "http://127.0.0.1:3000")


CHECKS: dict[str, Callable[[], str]] = {
    "code": _code,
    "webserver": _webserver,
    "daemon": _daemon,
    "serve": _serve,
}


def main() -> None:
    """Prints a line a process and exits with 1 if one is down."""
    use_addresses()
    unknown = sorted(set(sys.argv[1:]) - set(CHECKS))
    if unknown:
        sys.exit(f"there is no process {', '.join(unknown)}: they are {', '.join(CHECKS)}")
    found = list(check_health(sys.argv[1:]))
    for health in found:
        sys.stdout.write(f"{'ok  ' if health.is_well else 'down'}  {health.name}: {health.said}\n")
    sys.exit(any(not health.is_well for health in found))


if __name__ == "__main__":
    main()
