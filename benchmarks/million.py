"""A million users and a million items: pre-trained, embedded, and 10,000 of the users ranked.

    python -m benchmarks.million
    python -m benchmarks.million --users 20000 --items 50000 --ranked 1000    # a small try

Writes a random log, then runs the programs that the assets run, each in a process of its own that
may hold --memory-gb: `models.train` for one pass, `models.embed` of everybody, `models.finetune` to
rank all items by what pre-training scores, those seen excluded.

Columns: wall and CPU seconds, peak MB of resident memory, and events or users a CPU-second.
"""

import argparse
import datetime as dt
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.random_log import write_log
from contracts.lake.schemas import LABELS

AS_OF = dt.datetime(9000, 1, 1, tzinfo=dt.UTC)  # after the events, whose times are random
MEDIAN = 14  # events of a user
TASK = "next_item"


def main() -> None:
    """Prints one JSON object a program."""
    options = arguments()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        log = write_log(folder, options.users, options.items, MEDIAN)
        events = len(np.load(folder / "log" / "item.npy", mmap_mode="r"))
        say(users=options.users, items=options.items, events=events)
        told = run(folder, "models.train", train_job(log, folder, options), options)
        say(program="train", **told, events_per_cpu_second=round(events / told["cpu_s"]))
        told = run(folder, "models.embed", embed_job(log, folder), options)
        say(program="embed", **told, users_per_cpu_second=round(options.users / told["cpu_s"]))
        told = run(folder, "models.finetune", rank_job(log, folder, options), options)
        say(program="rank", **told, users_per_cpu_second=round(options.ranked / told["cpu_s"]))


def train_job(log: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One pass, to the end: nobody is held out."""
    method, encoder = options.recipe.split("_")
    recipe = {"method": method, "encoder": encoder, "epochs": 1, "validation": None}
    io = {"sequences": str(log), "out": str(folder / "model")}
    return {"recipe": recipe, "io": io, "runtime": {"threads": options.threads}}


def embed_job(log: Path, folder: Path) -> dict[str, Any]:
    """Everybody, as of the end."""
    day = {"event_timestamp": AS_OF.isoformat(), "created": AS_OF.isoformat()}
    day |= {"sequences": str(log), "out": str(folder / "vectors" / "day.parquet")}
    model = {"model_version": "million", "checkpoint": str(folder / "model"), "days": [day]}
    return {"models": [model]}


def rank_job(log: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Random items as what came next: what it costs does not depend on them."""
    rng, some = np.random.default_rng(1), options.ranked + 20  # of which train and valid have ten
    users, items = (rng.integers(0, n, some) for n in (options.users, options.items))
    users = np.unique(users)
    split = ["train"] * 10 + ["valid"] * 10 + ["test"] * (len(users) - 20)
    columns = {"user_id": users.astype(str), "label": items[: len(users)].astype(str)}
    same = {"as_of": AS_OF, "label_end": AS_OF, "task": TASK, "value": 1.0}
    columns |= {name: [value] * len(users) for name, value in same.items()} | {"split": split}
    columns |= {name: [None] * len(users) for name in LABELS.names if name not in columns}
    pq.write_table(pa.table(columns, schema=LABELS), folder / "labels.parquet")
    task = {"name": TASK, "kind": "ranking", "metric": "recall@10", "exclude_history": True}
    io = {name: str(folder / name) for name in ("labels.parquet", "model")}
    io = {"labels": io["labels.parquet"], "checkpoint": io["model"], "sequences": str(log)}
    return {
        "evaluation": {"tasks": [task], "protocols": ["native"]},
        "io": io | {"out": str(folder / "metrics" / "ranks.parquet")},
        "runtime": {"threads": options.threads},
    }


def run(
    folder: Path, module: str, job: dict[str, Any], options: argparse.Namespace
) -> dict[str, float]:
    """Runs a program on a job -> what it took."""
    path = folder / f"{module}.json"
    path.write_text(json.dumps(job))
    most, begun = int(options.memory_gb * (1 << 30)), time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", module, str(path)],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (most, most)),
    )
    _, status, used = os.wait4(process.pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{module} ended with {code}: its own words are above")
    return {
        "wall_s": round(time.monotonic() - begun, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_mb": round(used.ru_maxrss / 1024),
    }


def say(**facts: Any) -> None:
    """Prints a line of JSON."""
    print(json.dumps(facts), flush=True)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--ranked", type=int, default=10_000, help="users")
    parser.add_argument("--recipe", default="ptum_bag")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-gb", type=float, default=8.0, help="of each program")
    parser.add_argument("--folder", type=Path, help="for the files; some 5 GB")
    return parser.parse_args()


if __name__ == "__main__":
    main()
