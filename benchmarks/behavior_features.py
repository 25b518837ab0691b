"""Behavior features against one hand-written query a day, with the same columns and values.

    python -m benchmarks.behavior_features --events 1_000_000 10_000_000

Writes generated events of 60 days (about 50 a user, benchmarks/sessionization.py), their sessions
and a catalog to a temporary lake. Then, each in a process of its own under one memory limit
(FOOTPATH_MEMORY):

  range        `stage_features` of the last 30 days in one run, with no daily state to begin with
  day          `stage_features` of the last day alone, as every night: only its own state is missing
  by hand      DuckDB SQL for the same columns, one query a day over the 30 days that it sees
  by hand day  the same for the last day alone

The windows are 1, 7 and 30 days; DECLARED has what is computed. All must agree on the last day and
on one in the middle, row by row, or the program fails; footpath has a row more for each user who
fell silent, and 0 for a count of nothing. Read the ratios, not the seconds: they are of one machine
and one run.
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

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.sessionization import FIRST, generate
from contracts.base.clock import days_between
from contracts.config.dataset import Dataset, load_dataset
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file, publish_table
from contracts.lake.schemas import ITEMS

DAYS, BUILT, WINDOWS = 60, 30, (1, 7, 30)
ITEM_COUNT, CATEGORIES = 20_000, [f"category{n:02}" for n in range(20)]
ENGINES = ("range", "day", "by hand", "by hand day")

DECLARED = [
    {"kind": "count", "action": "view"},
    {"kind": "count", "action": "purchase"},
    {"kind": "distinct", "of": "items"},
    {"kind": "distinct", "of": "categories"},
    {"kind": "distinct", "of": "active_days"},
    {"kind": "distinct", "of": "sessions"},
    {"kind": "sessions", "stats": ["seconds_mean", "length_max"]},
    {"kind": "value", "action": "purchase", "stats": ["sum", "max", "std"], "windows": [30]},
    {"kind": "entropy", "of": "categories", "windows": [30]},
    {"kind": "funnel", "of": "purchase", "per": "view", "windows": [7, 30]},
    {"kind": "recency", "of": ["event", "purchase"]},
    {"kind": "gaps", "windows": [30]},
    {"kind": "trend", "short": 7, "long": 30},
    {"kind": "weekend", "windows": [30]},
]

# Per window of {w} days; `age` is how many days before the last one a row lies.
EACH_WINDOW = """
  count(*) FILTER (action = 'view' AND age < {w}) AS view_{w}d,
  count(*) FILTER (action = 'purchase' AND age < {w}) AS purchase_{w}d,
  count(DISTINCT item_id) FILTER (age < {w}) AS items_{w}d,
  count(DISTINCT category) FILTER (age < {w}) AS categories_{w}d,
  count(DISTINCT age) FILTER (age < {w}) AS active_days_{w}d,
"""
EACH_SESSION_WINDOW = """
  count(*) FILTER (age < {w}) AS sessions_{w}d,
  avg(duration_seconds) FILTER (age < {w}) AS session_seconds_mean_{w}d,
  max(length) FILTER (age < {w}) AS session_length_max_{w}d,
"""
BY_HAND = f"""
WITH events AS (
  SELECT user_id, timestamp, action, item_id, value, category,
    date_diff('day', timestamp::DATE, DATE '{{day}}') AS age
  FROM read_parquet({{events}}) AS log
    LEFT JOIN read_parquet('{{items}}') AS catalog USING (item_id)
), sessions AS (
  SELECT *, started_at - lag(ended_at) OVER (PARTITION BY user_id ORDER BY started_at) AS pause
  FROM (SELECT *, date_diff('day', closes_at::DATE, DATE '{{day}}') AS age
        FROM read_parquet({{sessions}})) WHERE age < 30
), of_events AS (
  SELECT user_id, {"".join(EACH_WINDOW.format(w=w) for w in WINDOWS)}
    sum(value) FILTER (action = 'purchase') AS purchase_value_sum_30d,
    max(value) FILTER (action = 'purchase') AS purchase_value_max_30d,
    stddev_pop(value) FILTER (action = 'purchase') AS purchase_value_std_30d,
    count(*) FILTER (action = 'purchase' AND age < 7)
      / nullif(count(*) FILTER (action = 'view' AND age < 7), 0) AS purchase_per_view_7d,
    count(*) FILTER (action = 'purchase')
      / nullif(count(*) FILTER (action = 'view'), 0) AS purchase_per_view_30d,
    date_diff('microsecond', max(timestamp), DATE '{{day}}' + 1) / 86.4e9 AS days_since_last_event,
    date_diff('microsecond', max(timestamp) FILTER (action = 'purchase'), DATE '{{day}}' + 1)
      / 86.4e9 AS days_since_last_purchase,
    (count(*) FILTER (age < 7) / 7) / (count(*) / 30) AS events_trend_7d_30d,
    count(*) FILTER (isodow(timestamp) >= 6) / count(*) AS weekend_share_30d
  FROM events GROUP BY user_id
), of_categories AS (
  SELECT user_id, ln(sum(n)) - sum(n * ln(n)) / sum(n) AS category_entropy_30d
  FROM (SELECT user_id, category, count(*) AS n FROM events
        WHERE category IS NOT NULL GROUP BY ALL) GROUP BY user_id
), of_sessions AS (
  SELECT user_id, {"".join(EACH_SESSION_WINDOW.format(w=w) for w in WINDOWS)}
    avg(epoch_us(pause) // 1_000_000) AS gap_seconds_mean_30d,
    stddev_pop(epoch_us(pause) // 1_000_000) AS gap_seconds_std_30d,
    arg_max(epoch_us(pause) // 1_000_000, started_at) AS gap_seconds_last_30d
  FROM sessions GROUP BY user_id
)
SELECT * FROM of_events FULL JOIN of_categories USING (user_id)
FULL JOIN of_sessions USING (user_id) ORDER BY user_id
"""

# A spread that is small against the mean comes from sums of squares that nearly cancel.
SLACK = {"gap_seconds_std_30d": "1e-8 * coalesce(ours.gap_seconds_mean_30d, 0)"}

# Rows of one day that differ.
DIFFERING = """
SELECT count(*), count(*) FILTER (NOT ({same})) FROM read_parquet('{hand}') AS hand
FULL JOIN (SELECT * FROM read_parquet('{ours}')
  WHERE days_since_last_event IS NOT NULL OR sessions_30d > 0) AS ours USING (user_id)
"""


def prepare(lake: Lake, events: int) -> None:
    """Publishes events, sessions and a catalog."""
    from features.sessionization.sessions import stage_sessions

    generate(lake, events, DAYS)
    with lake.staging() as folder:
        for day, path in stage_sessions(dataset(), lake, all_days(), folder).items():
            publish_file(path, lake.day("sessions", day))
    items = [
        {"item_id": f"i{n:06d}", "category": CATEGORIES[n % len(CATEGORIES)]}
        for n in range(ITEM_COUNT)
    ]
    publish_table(lake, pa.Table.from_pylist(items, schema=ITEMS), lake.single("items"))


def dataset() -> Dataset:
    """Returns the shop in UTC, with the features of this benchmark."""
    section = {"windows": list(WINDOWS), "standard": False, "declared": DECLARED}
    values = load_dataset("shop").model_dump() | {"timezone": "UTC"}
    return Dataset.model_validate(values | {"features": section})


def all_days() -> list[dt.date]:
    """Returns the days with events."""
    return days_between(FIRST, FIRST + dt.timedelta(days=DAYS - 1))


def measure(engine: str, lake: Lake, folder: Path) -> dict:
    """Runs one engine in this process; returns seconds, CPU seconds and peak gigabytes."""
    days = all_days()[-1:] if engine.endswith("day") else all_days()[-BUILT:]
    if engine == "day":
        from features.behavior.tables import BEHAVIOR

        lake.day(BEHAVIOR.state, days[0]).unlink()  # it comes with the new day
    started, computed = time.perf_counter(), time.process_time()
    if engine.startswith("by hand"):
        _by_hand(lake, days, folder)
    else:
        from features.behavior.build import stage_features

        stage_features(dataset(), lake, days, folder)
    return {
        "engine": engine,
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - computed,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def _by_hand(lake: Lake, days: list[dt.date], folder: Path) -> None:
    with connect() as connection:
        for day in days:
            seen = days_between(day - dt.timedelta(days=max(WINDOWS) - 1), day)
            query = BY_HAND.format(
                day=day,
                events=lake.existing("events", seen),
                sessions=lake.existing("sessions", seen),
                items=lake.single("items"),
            )
            target = folder / f"{day}.parquet"
            connection.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")


def check(ours: Path, hand: Path) -> None:
    """Stops the program where two files of a day differ in a value."""
    columns = pq.read_schema(ours)
    names = [name for name in pq.read_schema(hand).names if name != "user_id"]
    same = " AND ".join(_same(name, columns.field(name).nullable) for name in names)
    with connect() as connection:
        rows, differ = connection.execute(
            DIFFERING.format(same=f"coalesce({same}, false)", hand=hand, ours=ours)
        ).fetchall()[0]
    if differ or not rows:
        raise SystemExit(f"{differ:,} of {rows:,} rows of {ours.name} differ from {hand}")


def _same(name: str, is_nullable: bool) -> str:
    """SQL: whether a value is that by hand, where a count or sum of nothing may be null."""
    hand, ours = f"hand.{name}" if is_nullable else f"coalesce(hand.{name}, 0)", f"ours.{name}"
    slack = f"1e-5 * greatest(1, abs({ours})) + {SLACK.get(name, 0)}"
    return f"(({hand} IS NULL AND {ours} IS NULL) OR abs({hand} - {ours}) <= {slack})"


def compare(events: int, folder: Path) -> list[dict]:
    """Generates events, measures each engine in a process of its own, and compares them."""
    lake = Lake(folder / "lake")
    prepare(lake, events)
    results = []
    for engine in ENGINES:
        command = [sys.executable, "-m", "benchmarks.behavior_features", "--engine", engine]
        command += ["--folder", str(folder)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        results.append(json.loads(done.stdout))
    last, middle = (f"{all_days()[place]}.parquet" for place in (-1, -BUILT // 2))
    for name in (last, middle):
        check(folder / "range" / name, folder / "by hand" / name)
    check(folder / "day" / last, folder / "by hand day" / last)
    return results


def report(events: int, results: list[dict]) -> None:
    """Prints one row an engine: seconds, CPU a million events, peak memory, ratios."""
    print(f"\n{events:,} events of {DAYS} days, {os.cpu_count()} cores; equal values")
    print(f"{'engine':<12}{'seconds':>9}{'CPU s/M':>9}{'peak GB':>9}{'time':>7}{'CPU':>7}")
    by_name = {result["engine"]: result for result in results}
    for name, result in by_name.items():
        ours = by_name["day" if name.endswith("day") else "range"]
        costs = [result["seconds"], result["cpu"] / events * 1e6, result["peak_gb"]]
        ratios = [result[cost] / ours[cost] for cost in ("seconds", "cpu")]
        print(f"{name:<12}{costs[0]:>9.1f}{costs[1]:>9.2f}{costs[2]:>9.2f}", end="")
        print("".join(f"{ratio:>7.2f}" for ratio in ratios), flush=True)


def main() -> None:
    """Measures every size that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--folder", help="where the lake lies (default: a temporary folder)")
    parser.add_argument("--engine", choices=ENGINES, help="measure one, as JSON")
    given = parser.parse_args()
    if given.engine:
        folder = Path(given.folder)
        (folder / given.engine).mkdir(exist_ok=True)
        print(json.dumps(measure(given.engine, Lake(folder / "lake"), folder / given.engine)))
        return
    for events in given.events:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            report(events, compare(events, Path(folder)))


if __name__ == "__main__":
    main()
