"""Starts the programs of `models/` in processes of their own, through Dagster Pipes.

A process of its own gives the GPU's memory back when it ends, keeps torch out of Dagster, and is
the same command that runs by hand. Programs read and write local files only: where the lake is on
S3, what they need is fetched before, and what they made is sent after.
"""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterPipesExecutionError

from contracts.errors import FootpathError
from contracts.lake import Lake, is_remote, local_copy, publish_json, read_json, send_copy
from orchestration.instance import REPOSITORY

# Fields of a program's configuration that are paths of the lake.
READ = ("sequences", "labels", "checkpoint")
WRITTEN = ("out", "model_out")

# The file of a checkpoint that is written last.
COMPLETES = "config.json"


def run_side_by_side(work: list[Callable[[dict[str, int]], dict[str, Any]]]) -> list[dict]:
    """Runs programs at once, as many as there are cores, one after the other on a GPU.

    Small encoders gain more from a core each than from sharing all cores. Each piece of work is
    given the settings that it must add to its program's configuration.
    """
    has_gpu = Path("/proc/driver/nvidia/gpus").exists()
    workers = 1 if has_gpu else min(len(work), len(os.sched_getaffinity(0)))
    settings = {"threads": 1} if workers > 1 else {}
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda piece: piece(settings), work))


def run_program(
    context: dg.AssetExecutionContext,
    pipes: dg.PipesSubprocessClient,
    lake: Lake,
    module: str,
    config: dict[str, Any],
) -> dict[str, Any]:
    """Runs `python -m <module> CONFIG.json` and returns the result that it reported.

    The configuration stays in the local folder `runs`, so that the run can be repeated by hand.

    Raises:
      FootpathError: the program stopped, with its own sentence.
    """
    parts = [module.rsplit(".", 1)[-1], config.get("model_version"), Path(config["out"]).stem]
    path = lake.work / "runs" / f"{'-'.join(part for part in parts if part)}.json"
    publish_json(lake, _fetched(lake, config), path)
    context.log.info(f"python -m {module} {path}")
    fault = path.with_suffix(".fault")
    fault.unlink(missing_ok=True)
    try:
        invocation = pipes.run(
            context=context.op_execution_context,
            command=[sys.executable, "-m", module, str(path)],
            cwd=str(REPOSITORY),
            env={"FOOTPATH_FAULT_FILE": str(fault)},
        )
    except DagsterPipesExecutionError as error:
        sentence = fault.read_text() if fault.exists() else f"{module} stopped: {error}"
        raise FootpathError(sentence) from None
    results = [
        message.get("payload", message)
        for message in invocation.get_custom_messages()
        if isinstance(message, dict)
    ]
    if not results:
        raise FootpathError(f"{module} ended without a result: see the output of its process")
    for field in WRITTEN:
        if field in config:
            send_copy(lake, _in_lake(lake, config[field]), COMPLETES)
    return results[-1]


def _fetched(lake: Lake, config: dict[str, Any]) -> dict[str, Any]:
    """Returns a configuration whose paths are local, with what they name fetched from the lake."""
    if not is_remote(lake.root):
        return config
    fetched = dict(config)
    for field in (*READ, *WRITTEN):
        if field in config:
            path = _in_lake(lake, config[field])
            fetched[field] = str(local_copy(lake, path))
            if field == "sequences" and path.exists():
                local_copy(lake, path.parent / read_json(path)["folder"])
    return fetched


def _in_lake(lake: Lake, path: str) -> Path:
    """Returns the path of the lake that a configuration names as text."""
    return lake.root / path.removeprefix(f"{lake.root}/")
