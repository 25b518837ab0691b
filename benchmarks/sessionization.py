"""Sessionization against hand-written DuckDB and against the speed of the files themselves.

    python -m benchmarks.sessionization --events 1_000_000 10_000_000 100_000_000
    python -m benchmarks.sessionization --events 10_000_000 --one-day
    python -m benchmarks.sessionization --events 1_000_000 --against full spark

Writes generated events (about 50 a user and 8 a session, one file a day, or all in one) to a
temporary lake, then turns them into sessions four times, each in a process of its own, under one
memory limit (FOOTPATH_MEMORY):

  read_write   DuckDB reads the events and writes them again: the limit of these files
  sums         hand-written window SQL, aggregated: bounds, length and value of each session
  full         the same SQL with all columns of SESSIONS: id, lists of actions and items, ...
  footpath     `stage_sessions` over the whole range of days: all columns, the rule for bots, one
               sorted file a day, look-back and all
  spark        the same with FOOTPATH_ENGINE=spark, on this machine's cores; if asked for, and left
               out with a sentence where PySpark is not installed. Its peak is the larger of
               Python's and Java's

Read the ratios, not the seconds: they are of one machine and one run. Where other work shares the
machine, CPU says more than time. The processes must find the same runs of events (what the rule
for bots cuts in two counts as one), or the program fails.
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
from importlib.util import find_spec
from pathlib import Path

from contracts.base.clock import days_between
from contracts.config.dataset import Dataset, load_dataset
from contracts.lake.engine import connect
from contracts.lake.layout import Lake

FIRST = dt.date(2026, 1, 1)
EVENTS_PER_USER, EVENTS_PER_SESSION, GAP_MINUTES = 50, 8, 30

# Every column is a hash of the event's or its session's number: the same events in every run.
# A session starts on `since` and may reach into the next day, so two starting days are looked at.
GENERATE = """
COPY (
  WITH numbered AS (
    SELECT since, i, hash(since, 's', hash(since, i) % {sessions}) AS session
    FROM range({events}) AS numbers(i), (VALUES (DATE '{day}'), (DATE '{day}' - 1)) AS days(since)
  ), timed AS (
    SELECT *, since::TIMESTAMPTZ + to_microseconds(
      (session % 86_400_000_000 + hash(since, 't', i) % 2_400_000_000)::BIGINT) AS timestamp
    FROM numbered
  )
  SELECT md5(since || '/' || i) AS event_id,
    format('u{{:08d}}', hash('u', session) % {users}) AS user_id,
    timestamp,
    (row_number() OVER (PARTITION BY session, timestamp ORDER BY i) - 1)::INTEGER AS sequence,
    ['search', 'view', 'view', 'view', 'purchase'][(1 + hash(since, 'a', i) % 5)::BIGINT] AS action,
    format('i{{:06d}}', hash(since, 'i', i) % 20_000) AS item_id,
    CASE WHEN hash(since, 'a', i) % 5 = 4 THEN (hash(since, 'v', i) % 10_000) / 100 END AS value,
    NULL::VARCHAR AS session_id, NULL::MAP(VARCHAR, VARCHAR) AS properties
  FROM timed WHERE timestamp >= DATE '{day}' AND timestamp < DATE '{day}' + 1
  ORDER BY user_id, timestamp, sequence
) TO '{path}' (FORMAT parquet, COMPRESSION zstd)
"""

READ_WRITE = "SELECT * FROM read_parquet('{events}')"

SUMS = """
SELECT user_id, min(timestamp) AS started_at, max(timestamp) AS ended_at,
  count(*)::INTEGER AS length, sum(coalesce(value, 0)) AS value
FROM (
  SELECT *, sum(is_start) OVER (PARTITION BY user_id ORDER BY timestamp, sequence) AS session
  FROM (
    SELECT user_id, timestamp, sequence, value, (coalesce(timestamp - lag(timestamp) OVER (
      PARTITION BY user_id ORDER BY timestamp, sequence) > INTERVAL {gap} MINUTE, true))::INTEGER
      AS is_start
    FROM read_parquet('{events}')
  )
) GROUP BY user_id, session
"""

FULL = """
SELECT user_id || '-' || epoch_us(min(timestamp)) AS session_id, user_id,
  min(timestamp) AS started_at, max(timestamp) AS ended_at,
  max(timestamp) + INTERVAL {gap} MINUTE AS closes_at, count(*)::INTEGER AS length,
  date_diff('microsecond', min(timestamp), max(timestamp)) / 1e6 AS duration_seconds,
  list(action ORDER BY timestamp, sequence) AS actions,
  list(item_id ORDER BY timestamp, sequence) AS item_ids,
  count(DISTINCT item_id)::INTEGER AS distinct_items, sum(coalesce(value, 0)) AS value
FROM (
  SELECT *, sum(is_start) OVER (PARTITION BY user_id ORDER BY timestamp, sequence) AS session
  FROM (
    SELECT user_id, timestamp, sequence, action, item_id, value,
      (coalesce(timestamp - lag(timestamp) OVER (PARTITION BY user_id ORDER BY timestamp, sequence)
        > INTERVAL {gap} MINUTE, true))::INTEGER AS is_start
    FROM read_parquet('{events}')
  )
) GROUP BY user_id, session
"""

# Pieces of one run of events, cut at midnight, count once.
COUNT_RUNS = """
SELECT count(*) FILTER (coalesce(started_at - before > INTERVAL {gap} MINUTE, true)), sum(length)
FROM (
  SELECT *, lag(ended_at) OVER (PARTITION BY user_id ORDER BY started_at) AS before
  FROM read_parquet('{sessions}')
)
"""

SPARK = "spark"
QUERIES = {"read_write": READ_WRITE, "sums": SUMS, "full": FULL}


def generate(lake: Lake, events: int, days: int) -> None:
    """Writes the events of every day, as if published."""
    lake.table("events").mkdir(parents=True)
    a_day = events // days
    sizes = {"sessions": a_day // EVENTS_PER_SESSION, "users": events // EVENTS_PER_USER}
    with connect() as connection:
        for day in _days(days):
            path = lake.day("events", day)
            connection.execute(GENERATE.format(events=a_day, day=day, path=path, **sizes))


def measure(engine: str, lake: Lake, days: int) -> dict:
    """Runs one engine in this process; returns seconds, CPU seconds, peak gigabytes, runs."""
    import features.sessionization.sessions  # noqa: F401 - imported before the clock starts

    with tempfile.TemporaryDirectory(dir=lake.root) as folder:
        run = _hand_written if engine in QUERIES else _footpath
        started, computed = time.perf_counter(), time.process_time()
        run(engine, lake, days, Path(folder))
        seconds, cpu = time.perf_counter() - started, time.process_time() - computed
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        if engine == SPARK:
            java = _stop_java()
            cpu, peak = cpu + java.ru_utime + java.ru_stime, max(peak, java.ru_maxrss * 1024 / 1e9)
        found = None if engine == "read_write" else _count_runs(Path(folder))
    return {"engine": engine, "seconds": seconds, "cpu": cpu, "peak_gb": peak, "found": found}


def _count_runs(folder: Path) -> list[int]:
    with connect() as connection:
        query = COUNT_RUNS.format(sessions=folder / "*.parquet", gap=GAP_MINUTES)
        return [int(number) for number in connection.execute(query).fetchall()[0]]


def _hand_written(engine: str, lake: Lake, days: int, folder: Path) -> None:  # noqa: ARG001
    with connect() as connection:
        events = lake.table("events") / "*.parquet"
        query = QUERIES[engine].format(events=events, gap=GAP_MINUTES)
        target = folder / "sessions.parquet"
        connection.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")


def _footpath(engine: str, lake: Lake, days: int, folder: Path) -> None:  # noqa: ARG001
    from features.sessionization.sessions import stage_sessions

    # One day more: what is open at the last midnight closes in it.
    stage_sessions(_dataset(), lake, _days(days + 1), folder)


def _stop_java() -> resource.struct_rusage:
    """Ends the process in which Spark runs, and returns what it used."""
    from pyspark import SparkContext  # pyright: ignore[reportMissingImports]
    from pyspark.sql import SparkSession  # pyright: ignore[reportMissingImports]

    SparkSession.builder.getOrCreate().stop()
    java = SparkContext._gateway.proc
    java.stdin.close()
    java.wait()
    return resource.getrusage(resource.RUSAGE_CHILDREN)


def _dataset() -> Dataset:
    values = load_dataset("shop").model_dump()
    return Dataset.model_validate(
        values | {"timezone": "UTC", "sessions": {"gap_minutes": GAP_MINUTES}}
    )


def _days(count: int) -> list[dt.date]:
    return days_between(FIRST, FIRST + dt.timedelta(days=count - 1))


def compare(events: int, days: int, folder: Path, engines: list[str]) -> list[dict]:
    """Generates events, then measures each engine in a process of its own."""
    lake = Lake(folder)
    generate(lake, events, days)
    results = []
    for engine in [*engines, "footpath"]:
        if engine == SPARK and not find_spec("pyspark"):
            print("spark is left out: pip install -r requirements-spark.txt to have it")
            continue
        command = [sys.executable, "-m", "benchmarks.sessionization", "--engine", engine]
        command += ["--days", str(days), "--folder", str(folder)]
        settings = {"FOOTPATH_ENGINE": "spark" if engine == SPARK else "duckdb"}
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | settings
        )
        results.append(json.loads(done.stdout))
    found = {result["engine"]: result["found"] for result in results if result["found"]}
    if len({tuple(counts) for counts in found.values()}) > 1:
        raise SystemExit(f"the engines disagree on (runs, events): {found}")
    return results


def report(results: list[dict]) -> None:
    """Prints one row an engine: events a second, CPU, peak memory; time and CPU as ratios."""
    ours = results[-1]
    runs, events = ours["found"]
    print(f"\n{events:,} events, {runs:,} runs, {os.cpu_count()} cores; ratios: footpath = 1")
    print(f"{'engine':<12}{'M events/s':>12}{'CPU s/M':>9}{'peak GB':>9}{'time':>7}{'CPU':>7}")
    for result in results:
        costs = [events / result["seconds"] / 1e6, result["cpu"] / events * 1e6, result["peak_gb"]]
        ratios = [result[cost] / ours[cost] for cost in ("seconds", "cpu")]
        print(f"{result['engine']:<12}{costs[0]:>12.2f}{costs[1]:>9.2f}{costs[2]:>9.2f}", end="")
        print("".join(f"{ratio:>7.2f}" for ratio in ratios), flush=True)


def main() -> None:
    """Measures every size that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument(
        "--against",
        nargs="*",
        choices=[*QUERIES, SPARK],
        default=list(QUERIES),
        help="default: all but spark",
    )
    parser.add_argument("--one-day", action="store_true", help="all events in a single day")
    parser.add_argument("--folder", help="where the events lie (default: a temporary folder)")
    parser.add_argument(
        "--engine", choices=[*QUERIES, SPARK, "footpath"], help="measure one, as JSON"
    )
    given = parser.parse_args()
    days = 1 if given.one_day else given.days
    if given.engine:
        print(json.dumps(measure(given.engine, Lake(Path(given.folder)), days)))
        return
    for events in given.events:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            report(compare(events, days, Path(folder), given.against))


if __name__ == "__main__":
    main()
