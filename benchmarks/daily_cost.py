"""What a day costs beside its rows: `footpath run --until daily` of 1, 30 and 365 small days.

    python -m benchmarks.daily_cost
    python -m benchmarks.daily_cost --days 1 30 --against ../other-checkout

Generates a year of a small shop, then builds its first days in an empty lake, each number of days
by a command of its own: landing, catalog and users, events, sessions, behavior features. With
`--against`, another checkout does the same after each, with the same Python.

  runs      Dagster runs of the command
  wall      seconds of the whole command, start of the process included
  CPU       seconds of its processor time, user and system
  compute   seconds within the steps: reading, computing, the gate, publishing. Of it, a process
            needs some for loading Great Expectations, however many days there are
  overhead  what is left: the process, the definitions, Dagster's record of runs and partitions
"""

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dagster as dg

from features.shop import generate_shop

HERE = Path(__file__).resolve().parent.parent

# A checkout runs its own command; only the first day of the shop is another one, so that a year
# of it has ended.
COMMAND = """
import os, sys
from pathlib import Path
sys.path.insert(0, os.getcwd())
import contracts.config.dataset as dataset
folder, start = Path(sys.argv.pop(1)), sys.argv.pop(1)
shop = (dataset.DATASETS / "shop.yaml").read_text()
(folder / "shop.yaml").write_text(shop.replace("start: 2026-01-01", f"start: {start}"))
dataset.DATASETS = folder
from orchestration.cli.main import main
main()
"""


def measure(checkout: Path, shop: Path, start: str, last: str) -> dict[str, float]:
    """Builds the days from start to last in an empty lake."""
    with tempfile.TemporaryDirectory() as home:
        settings = {"FOOTPATH_HOME": home, "DAGSTER_HOME": f"{home}/dagster"}
        command = [sys.executable, "-W", "ignore", "-c", COMMAND, home, start]
        command += ["run", "--data", str(shop), "--until", "daily", "--last-day", last]
        begun, used = time.perf_counter(), os.times()
        done = subprocess.run(
            command, cwd=checkout, env=os.environ | settings, capture_output=True, text=True
        )
        wall, now = time.perf_counter() - begun, os.times()
        if done.returncode:
            raise SystemExit(done.stderr)
        os.environ.update(settings)
        sys.path.insert(0, str(checkout))  # where the storage of its instance is
        with dg.DagsterInstance.get() as instance:
            runs = instance.get_runs()
            compute = sum(_compute(instance, run.run_id) for run in runs)
    cpu = now.children_user + now.children_system - used.children_user - used.children_system
    return {
        "runs": len(runs), "wall": wall, "cpu": cpu, "compute": compute, "overhead": wall - compute
    }  # fmt: skip


def _compute(instance: dg.DagsterInstance, run_id: str) -> float:
    """Seconds between the start of each step and its first output: what comes after is record."""
    started: dict[str, float] = {}
    seconds: dict[str, float] = {}
    kinds = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_OUTPUT}
    for entry in instance.all_logs(run_id, of_type=kinds):
        step = entry.step_key or ""
        if entry.get_dagster_event().event_type is dg.DagsterEventType.STEP_START:
            started[step] = entry.timestamp
        else:
            seconds.setdefault(step, entry.timestamp - started[step])
    return sum(seconds.values())


def main() -> None:
    """Measures each number of days, in this checkout and in the other one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, nargs="+", default=[1, 30, 365])
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument("--against", type=Path, help="another checkout")
    given = parser.parse_args()
    start = dt.date(2025, 1, 1)
    checkouts = [HERE, *([given.against.resolve()] if given.against else [])]
    print("| days | checkout | runs | wall s | CPU s | compute s | overhead s |")
    print("|---|---|---|---|---|---|---|", flush=True)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        shop = Path(folder) / "shop"
        generate_shop(shop, given.users, max(given.days), start=start)
        for days in given.days:
            last = str(start + dt.timedelta(days=days - 1))
            for checkout in checkouts:
                found = measure(checkout, shop, str(start), last)
                results.append({"days": days, "checkout": str(checkout)} | found)
                figures = [f"{found[name]:.1f}" for name in list(found)[1:]]
                cells = [str(days), checkout.name, str(found["runs"]), *figures]
                print(f"| {' | '.join(cells)} |", flush=True)
    sys.stderr.write(f"{json.dumps(results)}\n")


if __name__ == "__main__":
    main()
