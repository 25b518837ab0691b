"""Starts the programs of `models/` in processes of their own, through Dagster Pipes.

A process of its own gives the GPU's memory back when it ends, keeps torch out of Dagster, and is
the same command that runs by hand or, by another Pipes client, on another machine. Programs read
and write local files only: where the lake is on S3, what they need is fetched before, and what they
made is sent after.

Where there are several GPUs, pre-training starts as so many ranks; FOOTPATH_RANKS asks for another
number. While it runs, each epoch's figures become an observation of the asset, which Dagster plots.
"""

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import psutil

from contracts.base.errors import FootpathError, TransientError
from contracts.base.schema import Strict
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_text
from orchestration.dagster_private import DagsterPipesExecutionError
from orchestration.experiments.live import LiveMessages
from orchestration.instance import REPOSITORY

# Programs that may run as several ranks.
IN_RANKS = ("models.train",)

# Exit code of a process that a signal has ended, SIGKILL for want of memory above all.
_KILLED = re.compile(r"with code (-\d+|137)\b")

_GPUS = Path("/proc/driver/nvidia/gpus")  # a folder a GPU


def workers_here() -> int:
    """How many programs run at once: one a core, or one alone where it takes GPUs or ranks.

    Small encoders gain more from a core each than from sharing all cores.
    """
    return 1 if _GPUS.exists() or ranks() > 1 else len(os.sched_getaffinity(0))


def ranks() -> int:
    """How many processes train one model together: one a GPU, unless FOOTPATH_RANKS says.

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
    """The command that runs a program, as ranks where it may and there is more than one."""
    if module in IN_RANKS and ranks() > 1:
        return [sys.executable, "-m", "models.runtime.launch", str(ranks()), module, str(path)]
    return [sys.executable, "-m", module, str(path)]


def stop_programs() -> None:
    """Ends the programs that this process has started; training goes on later from where it was."""
    for started in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it has just ended
            if any(part.startswith("models.") for part in started.cmdline()):
                started.terminate()


def run_program(
    context: dg.AssetExecutionContext,
    pipes: dg.PipesSubprocessClient,
    lake: Lake,
    name: str,
    module: str,
    job: Strict,
    partition: str | None = None,
) -> dict[str, Any]:
    """Runs `python -m <module> JOB.json` and returns the result that it reported.

    The job stays in the local folder `runs`, so that it can be run again by hand.

    Args:
      context: of the asset that is told of progress.
      pipes: how the process is started.
      lake: of the data set.
      name: of the job's file.
      module: of the program.
      job: what it is given; its paths are local.
      partition: of the asset, that observations are of.

    Raises:
      TransientError: the program was killed.
      FootpathError: it stopped, with its own sentence.
    """
    path = lake.work / "runs" / f"{name}.json"
    publish_text(lake, job.model_dump_json(indent=2), path)
    command = command_of(module, path)
    context.log.info(" ".join(["python", *command[1:]]))
    fault = path.with_suffix(".fault")
    fault.unlink(missing_ok=True)
    try:
        pipes = dg.PipesSubprocessClient(
            env=pipes.env,
            cwd=str(REPOSITORY),
            message_reader=LiveMessages(context, partition),
        )
        invocation = pipes.run(
            context=context.op_execution_context,
            command=command,
            env={"FOOTPATH_FAULT_FILE": str(fault)},
        )
    except DagsterPipesExecutionError as error:
        if fault.exists():
            raise FootpathError(fault.read_text()) from None
        # torchrun, which starts ranks, ends by itself where one of them was killed.
        was_killed = _KILLED.search(str(error)) or len(command) > 4
        kind = TransientError if was_killed else FootpathError
        raise kind(f"{module} stopped: {error}") from None
    messages = [
        m.get("payload", m) for m in invocation.get_custom_messages() if isinstance(m, dict)
    ]
    results = [message for message in messages if message.get("kind") == "result"]
    if not results:
        raise FootpathError(f"{module} ended without a result: see the output of its process")
    return results[-1]
