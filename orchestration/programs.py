"""Starts the programs of `models/` in processes of their own, through Dagster Pipes.

A process of its own gives the GPU's memory back when it ends, keeps torch out of Dagster, and is
the same command that runs by hand.
"""

import sys
from pathlib import Path
from typing import Any

import dagster as dg

from contracts.lake import Lake, publish_json
from orchestration.instance import REPOSITORY


def run_program(
    context: dg.AssetExecutionContext,
    pipes: dg.PipesSubprocessClient,
    lake: Lake,
    module: str,
    config: dict[str, Any],
) -> dict[str, Any]:
    """Runs `python -m <module> CONFIG.json` and returns the result that it reported.

    The configuration stays in the lake, so that the run can be repeated by hand.

    Raises:
      Failure: the program stopped; its own sentence is in the log of the run.
    """
    name = f"{module.rsplit('.', 1)[-1]}-{Path(config['out']).name}.json"
    path = lake.root / "runs" / name
    publish_json(lake, config, path)
    context.log.info(f"python -m {module} {path}")
    invocation = pipes.run(
        context=context.op_execution_context,
        command=[sys.executable, "-m", module, str(path)],
        cwd=str(REPOSITORY),
    )
    results = [
        message.get("payload", message)
        for message in invocation.get_custom_messages()
        if isinstance(message, dict)
    ]
    if not results:
        raise dg.Failure(f"{module} ended without a result: see the output of its process")
    return results[-1]
