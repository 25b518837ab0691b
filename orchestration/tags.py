"""Run tags: Dagster's for the partitions of a run, which have no public names, and our own."""

import datetime as dt
import os
from typing import Any

PARTITION = "dagster/partition"
FIRST_PARTITION = "dagster/asset_partition_range_start"
LAST_PARTITION = "dagster/asset_partition_range_end"

# Of a run that was requested because something was due: why, and that it builds only what is due
# of its range.
REASON = "footpath/reason"
DUE = "footpath/due"

# Of the runs of one chain: its id, the stage, and what the run does, to be read by a person.
CHAIN = "footpath/chain"
STAGE = "footpath/stage"
WHAT = "footpath/what"

# Dagster's: why a run failed (absent where its process died), and how often it retries one.
FAILURE_REASON = "dagster/failure_reason"
MAX_RETRIES = "dagster/max_retries"

# These begin as those do that Dagster keeps out of the UI. Of a run that was requested: the key of
# the request, and when it was made.
REQUEST = ".dagster/footpath_request"
REQUESTED_AT = ".dagster/footpath_requested_at"
# The process that carries a run: its host, the start of that host, and the process itself.
HOST = ".dagster/footpath_host"
BOOT = ".dagster/footpath_boot"
PROCESS = ".dagster/footpath_process"


def gpu_tags() -> dict[str, Any]:
    """Tag by which Dagster's K8sRunLauncher asks for FOOTPATH_GPUS graphics cards for a run."""
    if not (count := os.environ.get("FOOTPATH_GPUS")):
        return {}
    container = {"resources": {"limits": {"nvidia.com/gpu": count}}}
    return {"dagster-k8s/config": {"container_config": container}}


def range_tags(first: dt.date | str, last: dt.date | str) -> dict[str, str]:
    """Tags of a run over a range of partitions, such as days."""
    return {FIRST_PARTITION: str(first), LAST_PARTITION: str(last)}
