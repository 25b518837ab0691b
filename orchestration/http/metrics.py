"""Prometheus metrics, added up over the processes of a service.

PROMETHEUS_MULTIPROC_DIR must be set before this module is imported, where there are several.
"""

import os

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.responses import Response

# Whether values are shared is settled when prometheus_client is loaded; Feast sets this later.
SHARED = bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)

REGISTRY = CollectorRegistry()
REQUESTS = Counter(
    "footpath_serve_requests", "Requests.", ["path", "status"], registry=REGISTRY
)  # fmt: skip
DURATION = Histogram(
    "footpath_serve_seconds", "Seconds of a request.", ["path"], buckets=SECONDS, registry=REGISTRY
)
USERS_READ = Counter(
    "footpath_serve_users", "Users that were read.", ["dataset", "service"], registry=REGISTRY
)


def metrics() -> Response:
    """All metrics, as Prometheus reads them."""
    registry = REGISTRY
    if SHARED:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
