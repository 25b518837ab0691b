"""What a night's embedding costs where few users have new events, against embedding everybody.

    python -m benchmarks.daily_embedding
    python -m benchmarks.daily_embedding --users 50000 --events 1000000 --active 0.02 --check

Publishes a random log of 60 days, embeds its last day by a model of each encoder with random
weights (a trained one costs as much), publishes one day more on which a share of the users do
something, and embeds that day twice: by the sequences and vectors of everybody, and as the asset
does. Then the index of similar users is built. Each way runs in a process of its own, torch on one
thread.

Columns: CPU seconds (user and system, without loading libraries) of staging sequences, of making
vectors, and of publishing; peak MB; MB of sequences written, and MB that are left of them.
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

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.random_log import CATEGORIES
from contracts.base.clock import as_of_instant, days_between
from contracts.config.dataset import Dataset, load_dataset
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from contracts.lake.schemas import BUILT_FROM, EVENTS, ITEMS
from contracts.lake.versions import allocate, version_named
from contracts.recipes.jobs import EmbedDay, EmbedJob, EmbedModel, Runtime

FIRST = dt.date(2026, 1, 1)
DAYS = days_between(FIRST, FIRST + dt.timedelta(days=59))
NEXT = DAYS[-1] + dt.timedelta(days=1)
ITEM_COUNT = 5000
DIM = 64


def publish_day(dataset: Dataset, lake: Lake, day: dt.date, who: np.ndarray) -> None:
    """Publishes an event of each of some users at random times of a day."""
    rng, count = np.random.default_rng(day.toordinal()), len(who)
    end = round(as_of_instant(day, dataset.timezone).timestamp() * 1e6)
    times = end - 1 - rng.integers(0, 23 * 3600, count) * 1_000_000
    order = np.lexsort((times, who))
    items = np.minimum(rng.zipf(1.2, count), ITEM_COUNT)
    columns = {
        "event_id": [f"{day}-{n}" for n in range(count)],
        "user_id": [f"user-{n:08}" for n in who[order]],
        "timestamp": pa.array(times[order], pa.timestamp("us", "UTC")),
        "sequence": np.arange(count),
        "action": rng.choice(dataset.actions, count),
        "item_id": [f"i{n}" for n in items],
        "value": rng.random(count),
    }
    arrays = [
        pa.array(columns[field.name]).cast(field.type) if field.name in columns
        else pa.nulls(count, field.type)
        for field in EVENTS
    ]  # fmt: skip
    said = {BUILT_FROM: json.dumps({"fragments": {str(day): "0"}}).encode()}
    table = pa.Table.from_arrays(arrays, schema=EVENTS).replace_schema_metadata(said)
    publish_table(lake, table, lake.day("events", day))


def publish_log(dataset: Dataset, lake: Lake, users: int, events: int) -> None:
    """Publishes the log and its catalog; how often somebody comes is log-normal."""
    rng = np.random.default_rng(0)
    rows = [{"item_id": f"i{n + 1}", "category": f"c{n % CATEGORIES}"} for n in range(ITEM_COUNT)]
    publish_table(lake, pa.Table.from_pylist(rows, schema=ITEMS), lake.single("items"))
    share = rng.lognormal(0, 0.85, users)
    who = np.concatenate(
        [np.arange(users), rng.choice(users, events - users, p=share / share.sum())]
    )
    when = rng.integers(0, len(DAYS), len(who))
    for number, day in enumerate(DAYS):
        publish_day(dataset, lake, day, who[when == number])


def train(dataset: Dataset, lake: Lake, encoder: str) -> None:
    """Names a version of an encoder with random weights."""
    from contracts.recipes.jobs import TrainIO, TrainJob
    from contracts.recipes.recipe import Recipe
    from features.learning.sequences import build_sequences
    from models.runtime.report import Reporter
    from models.train import train as run

    recipe = f"none_{encoder}"
    version = allocate(lake, recipe, f"trial-{recipe}", str(DAYS[-1]))
    pointer = build_sequences(dataset, lake, DAYS[-1]).pointer
    io = TrainIO(sequences=pointer, out=version.folder(lake))
    run(TrainJob(recipe=Recipe.named(recipe, {"dim": DIM}), io=io), Reporter())


class Clock:
    """CPU seconds since it was last asked."""

    def __init__(self) -> None:
        self._last = 0.0
        self.lap()

    def lap(self) -> float:
        """Seconds since then."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        now, before = used.ru_utime + used.ru_stime, self._last
        self._last = now
        return now - before


def size_of(folder: Path) -> float:
    """Megabytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def everybody(dataset: Dataset, lake: Lake, version: str, day: dt.date, keep: bool) -> dict:
    """Embeds everybody from published sequences of the whole history."""
    from features.learning.sequences import build_sequences
    from features.store import publish_embeddings
    from models.embed import embed
    from models.runtime.report import Reporter

    checkpoint, clock = version_named(lake, version).folder(lake), Clock()
    report, found = build_sequences(dataset, lake, day, checkpoint / "vocabulary.json"), {}
    pointer, written = report.pointer, size_of(report.folder)
    found["sequences"] = clock.lap()
    instant = as_of_instant(day, dataset.timezone).isoformat()
    with lake.staging() as folder:
        out = folder / "fresh.parquet"
        part = EmbedDay(event_timestamp=instant, created=instant, sequences=pointer, out=out)
        model = EmbedModel(model_version=version, checkpoint=checkpoint, days=[part])
        found["rows"] = embed(EmbedJob(models=[model], runtime=Runtime(threads=1)), Reporter())[
            "rows"
        ]
        found["vectors"] = clock.lap()
        if keep:  # to compare it with what the other way publishes
            os.link(out, lake.root / f"{version}-everybody.parquet")
        publish_embeddings(lake, f"{version}-everybody", day, out)
    return found | {"publishing": clock.lap(), "written": written, "left": written}


def night(dataset: Dataset, lake: Lake, version: str, day: dt.date, _: bool) -> dict:
    """Embeds a day as the asset does."""
    from models.embed import embed
    from models.runtime.report import Reporter
    from orchestration.embedding.days import job_of, plan_days
    from orchestration.embedding.days import publish_day as publish

    clock, found = Clock(), {}
    with lake.staging() as folder:
        planned = plan_days(dataset, lake, [(day, version)], folder, print)
        found["sequences"], found["written"] = clock.lap(), size_of(folder)
        if job := job_of(planned):
            embed(job.model_copy(update={"runtime": Runtime(threads=1)}), Reporter())
        found["vectors"] = clock.lap()
        found["rows"] = publish(lake, planned[0])["dagster/row_count"]
        found["publishing"] = clock.lap()
    return found | {"left": 0.0}


def index(dataset: Dataset, lake: Lake, version: str, *_: object) -> dict:
    """Builds the index of similar users."""
    from features.store.similar import build_index

    clock, begun = Clock(), time.monotonic()
    users = build_index(dataset, lake, version).users
    return {"index": clock.lap(), "seconds": time.monotonic() - begun, "rows": users}


WAYS = {"everybody": everybody, "night": night, "index": index}


def run(way: str, version: str, day: dt.date, check: bool) -> dict:
    """Runs a way in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.daily_embedding", "--way", way]
    command += ["--version", version, "--day", str(day), *(["--check"] if check else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def check_equal(lake: Lake, version: str) -> str:
    """How far the vectors of both ways lie apart."""
    tables = [
        pq.read_table(path, columns=["user_id", "embedding"])
        for path in (lake.root / f"{version}-everybody.parquet",
                     lake.day(f"user_embeddings/{version}", NEXT))
    ]  # fmt: skip
    assert tables[0]["user_id"].equals(tables[1]["user_id"])
    full, found = (
        t["embedding"].combine_chunks().flatten().to_numpy().reshape(len(t), -1) for t in tables
    )
    off = np.linalg.norm(full - found, axis=1) / np.linalg.norm(full, axis=1)
    same = (full == found).all(1).mean()
    return f"{same:.1%} of the vectors equal to the bit, the rest within {off.max():.0e}"


def main() -> None:
    """Measures every encoder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--active", type=float, default=0.02, help="share of users of the last day")
    parser.add_argument("--encoders", nargs="+", default=["bag", "bert4rec"])
    parser.add_argument("--check", action="store_true", help="compare the vectors of both ways")
    for hidden in ("--way", "--version", "--day"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args()
    dataset = load_dataset("shop")
    if given.way:
        lake, day = Lake.of("shop"), dt.date.fromisoformat(given.day)
        found = WAYS[given.way](dataset, lake, given.version, day, given.check)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found | {"peak": peak}))
        return
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"FOOTPATH_HOME": home, "OMP_NUM_THREADS": "1"}
        lake = Lake.of("shop")
        publish_log(dataset, lake, given.users, given.events)
        print("| encoder, day | way | sequences | vectors | publishing | CPU s | peak MB "
              "| MB written | MB left |\n|---|---|---|---|---|---|---|---|---|")  # fmt: skip
        for encoder in given.encoders:
            train(dataset, lake, encoder)
            tell(f"{encoder}, first", "night", run("night", f"none_{encoder}_v1", DAYS[-1], False))
        active = np.random.default_rng(1).choice(given.users, round(given.active * given.users))
        publish_day(dataset, lake, NEXT, np.repeat(active, 4))
        for encoder in given.encoders:
            version = f"none_{encoder}_v1"
            for way in ("everybody", "night"):
                tell(f"{encoder}, next", way, run(way, version, NEXT, given.check))
            if given.check:
                print(f"{encoder}: {check_equal(lake, version)}")
            built = run("index", version, NEXT, False)
            print(f"{encoder}: index of {built['rows']:,} users: {built['index']:.2f} CPU s, "
                  f"peak {built['peak']:,.0f} MB", flush=True)  # fmt: skip


def tell(what: str, way: str, found: dict) -> None:
    """Prints a row."""
    stages = [found[name] for name in ("sequences", "vectors", "publishing")]
    cells = [what, way, *(f"{each:.2f}" for each in [*stages, sum(stages)])]
    cells += [f"{found[name]:,.1f}" for name in ("peak", "written", "left")]
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
