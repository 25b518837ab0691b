"""The service as processes: one listens and starts again what dies, the others answer.

In:  settings and an address. Out: returns when it is stopped, after the requests that were begun.
No process is ever replaced for the number of its requests, so none of them is lost by that.
"""

import os
import tempfile
from pathlib import Path

from contracts.base.errors import FootpathError
from contracts.config.dataset import load_dataset
from contracts.lake.layout import Lake
from features.store.view_specs import repository
from orchestration.http.settings import Settings, check_address
from orchestration.http.tokens import read_tokens

# Feast makes a folder of its own at every start where its variable is not set.
METRICS = ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR")
GRACE_SECONDS = 20  # for requests in flight, when it is stopped
KEEP_ALIVE_SECONDS = 75  # longer than a proxy's: it is the proxy that closes
BACKLOG = 2_048
# Before that a process that does not answer its parent is killed: loading Feast takes long.
SILENT_SECONDS = 60


def serve(settings: Settings, host: str, port: int, workers: int) -> None:
    """Serves until it is stopped.

    Raises:
      FootpathError: the address asks for tokens, they cannot be read, or a data set that was named
        has no feature registry.
    """
    tokens = Path(settings.tokens) if settings.tokens else None
    check_address(host, tokens)
    if tokens:
        read_tokens(tokens)
    for name in settings.datasets:
        load_dataset(name)
        if not (repository(Lake.of(name)) / "services.json").exists():
            raise FootpathError(
                f"data set '{name}' has no feature registry yet: `footpath run --dataset {name}`, "
                "or materialize feature_registry"
            )
    import uvicorn

    with tempfile.TemporaryDirectory(prefix="footpath-serve-") as folder:
        os.environ.update(dict.fromkeys(METRICS, folder))
        settings.export()
        uvicorn.run(
            "orchestration.http.app:create_app",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
            timeout_worker_healthcheck=SILENT_SECONDS,
            access_log=False,
            log_level="warning",
            server_header=False,
        )
