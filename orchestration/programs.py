"""Starts the programs of `models/` in processes of their own, through Dagster Pipes.

A process of its own gives the GPU's memory back when it ends, keeps torch out of Dagster, and is
the same command that runs by hand. Programs read and write local files only: where the lake is on
S3, what they need is fetched before, and what they made is sent after.

Where there are several GPUs, pre-training starts as so many ranks; FOOTPATH_RANKS asks for another
number. While it runs, each epoch's figures become an observation of the asset, which Dagster plots.
"""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg

from contracts.base.errors import FootpathError
from contracts.lake.copies import local_copy, send_copy
from contracts.lake.layout import Lake
from contracts.lake.paths import is_remote
from contracts.lake.publishing import publish_json
from contracts.lake.reading import read_json
from orchestration.dagster_private import DagsterPipesExecutionError
from orchestration.instance import REPOSITORY
from orchestration.live import LiveMessages

# Fields of a program's configuration that are paths of the lake.
READ = ("sequences", "labels", "checkpoint")
WRITTEN = ("out", "model_out", "predictions")

# The file of a checkpoint that is written last.
COMPLETES = "config.json"

# Programs that may run as several ranks.
IN_RANKS = ("models.train",)

_GPUS = Path("/proc/driver/nvidia/gpus")  # a folder a GPU


def run_side_by_side(work: list[Callable[[dict[str, int]], dict[str, Any]]]) -> list[dict]:
    """Runs programs at once, as many as there are cores, one after the other on a GPU.

    Small encoders gain more from a core each than from sharing all cores. Each piece of work is
    given the settings that it must add to its program's configuration.
    """
    whole = _GPUS.exists() or ranks() > 1
    workers = 1 if whole else min(len(work), len(os.sched_getaffinity(0)))
    settings = {"threads": 1} if workers > 1 else {}
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda piece: piece(settings), work))


def ranks() -> int:
    """Returns how many processes train one model together: one a GPU, unless FOOTPATH_RANKS says.

    Raises:
      FootpathError: FOOTPATH_RANKS is not a number of processes.
    """
    asked = os.environ.get("FOOTPATH_RANKS")
    if not asked:
        return max(1, len(list(_GPUS.glob("*"))))
    if not asked.isdigit() or int(asked) < 1:
        raise FootpathError(f"FOOTPATH_RANKS is '{asked}': expected a whole number of 1 or more")
    return int(asked)


def command_of(module: str, path: Path) -> list[str]:
    """Returns the command that runs a program, as ranks where it may and there is more than one."""
    if module in IN_RANKS and ranks() > 1:
        return [sys.executable, "-m", "models.runtime.launch", str(ranks()), module, str(path)]
    return [sys.executable, "-m", module, str(path)]


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
    command = command_of(module, path)
    context.log.info(" ".join(["python", *command[1:]]))
    fault = path.with_suffix(".fault")
    fault.unlink(missing_ok=True)
    try:
        pipes = dg.PipesSubprocessClient(
            env=pipes.env,
            cwd=str(REPOSITORY),
            message_reader=LiveMessages(context, config.get("recipe")),
        )
        invocation = pipes.run(
            context=context.op_execution_context,
            command=command,
            env={"FOOTPATH_FAULT_FILE": str(fault)},
        )
    except DagsterPipesExecutionError as error:
        sentence = fault.read_text() if fault.exists() else f"{module} stopped: {error}"
        raise FootpathError(sentence) from None
    said = [m.get("payload", m) for m in invocation.get_custom_messages() if isinstance(m, dict)]
    results = [message for message in said if message.get("kind") == "result"]
    if not results:
        raise FootpathError(f"{module} ended without a result: see the output of its process")
    for field in WRITTEN:
        if field in config:
            send_copy(lake, in_lake(lake, config[field]), COMPLETES)
    return results[-1]


def _fetched(lake: Lake, config: dict[str, Any]) -> dict[str, Any]:
    """Returns a configuration whose paths are local, with what they name fetched from the lake."""
    if not is_remote(lake.root):
        return config
    fetched = dict(config)
    for field in (*READ, *WRITTEN):
        if field in config:
            path = in_lake(lake, config[field])
            fetched[field] = str(local_copy(lake, path))
            if field == "sequences" and path.exists():
                local_copy(lake, path.parent / read_json(path)["folder"])
    if judge := config.get("validation"):
        fetched["validation"] = _fetched(lake, judge)
    return fetched


def in_lake(lake: Lake, path: str) -> Path:
    """Returns the path of the lake that a configuration names as text."""
    return lake.root / path.removeprefix(f"{lake.root}/")
