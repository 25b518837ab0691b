"""Landing files to published events, against the speed at which DuckDB itself reads such files.

    python -m benchmarks.ingestion --rows 2_000_000 --days 4

Writes generated landing files (hourly gzip JSON lines as the shop has them, and the same rows as
gzip CSV), then turns them into one sorted zstd Parquet file a day, each way in a process of its own
that counts its own processor time (user and system, all threads):

  limit      DuckDB's own reader with the types declared, mapped, sorted and written: no line
             numbers, no refused rows, no manifests, no repeats found, no gate
  footpath   `land`, `stage_events`, `audit_events` and `publish`, timed one by one

Both must end with the same number of rows, or the program fails. Loading Great Expectations, which
a process does once, is not counted. Seconds are of one machine; read the ratios.

600,000 rows as JSON lines, one run on 2 cores that had much other work: land 0.61 of the limit's
rows by processor second, land to publish 0.31, and the gate takes 22 % of that path.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contracts.base.clock import days_between
from contracts.base.sql import literal, literals, name
from contracts.config.dataset import Dataset, load_dataset
from contracts.config.sources import link_source
from contracts.lake.engine import connect
from contracts.lake.layout import Lake, home

FIRST = dt.date(2026, 1, 1)
FORMATS = {"jsonl": "events/{year}-{month}-{day}/{hour}.jsonl.gz"}
FORMATS["csv"] = FORMATS["jsonl"].replace("jsonl", "csv")

# Every column is a hash of the event's number: the same events in every run.
HOUR = """
COPY (
  SELECT md5('{stem}' || i) AS id,
    format('u{{:08d}}', hash('u', '{stem}', i) % {users}) AS "user",
    strftime(TIMESTAMP '{stem}:00:00' + to_microseconds((hash('t', i) % 3_600_000_000)::BIGINT),
      '%Y-%m-%dT%H:%M:%S.%fZ') AS ts,
    ['search', 'view', 'view', 'view', 'purchase'][(1 + hash('a', i) % 5)::BIGINT] AS type,
    format('i{{:06d}}', hash('i', '{stem}', i) % 20_000) AS item,
    CASE WHEN hash('a', i) % 5 = 4 THEN (hash('v', i) % 10_000) / 100 END AS price,
    CASE WHEN hash('a', i) % 5 = 0 THEN format('word {{}}', hash('q', i) % 999) END AS query,
    ['phone', 'desktop', 'tablet', NULL][(1 + hash('d', i) % 4)::BIGINT] AS device
  FROM range({rows}) AS numbers(i)
) TO '{path}' ({options}, COMPRESSION gzip)
"""


def dataset_of(kind: str, days: int) -> Dataset:
    """Returns the shop with its files in one format, in UTC days."""
    shop = load_dataset("shop").model_dump()
    landing = shop["landing"] | {"url": FORMATS[kind], "format": kind}
    last = FIRST + dt.timedelta(days=days - 1)
    changes = {"landing": landing, "partitions": {"start": FIRST, "end": last}, "timezone": "UTC"}
    return Dataset.model_validate(shop | changes)


def files_of(folder: Path, kind: str, day: dt.date) -> list[str]:
    """Returns a day's files."""
    return [
        str(folder / FORMATS[kind].format(year=day.year, month=f"{day.month:02}",
                                          day=f"{day.day:02}", hour=f"{hour:02}"))
        for hour in range(24)
    ]  # fmt: skip


def generate(folder: Path, rows: int, days: int) -> None:
    """Writes the landing files in both formats."""
    options = {"jsonl": "FORMAT json", "csv": "FORMAT csv, HEADER"}
    with connect() as connection:
        for day in days_between(FIRST, FIRST + dt.timedelta(days=days - 1)):
            for kind in FORMATS:
                for hour, path in enumerate(files_of(folder, kind, day)):
                    Path(path).parent.mkdir(parents=True, exist_ok=True)
                    share, stem = rows // days // 24, f"{day} {hour:02}"
                    sql = HOUR.format(
                        stem=stem, users=max(rows // 50, 1), rows=share, path=path,
                        options=options[kind],
                    )  # fmt: skip
                    connection.execute(sql)


def limit(folder: Path, kind: str, days: int) -> dict[str, Any]:
    """Reads, maps, sorts and writes with DuckDB alone."""
    dataset = dataset_of(kind, days)
    types = ", ".join(f"{literal(c)}: {literal(t)}" for c, t in dataset.landing.columns.items())
    reader = {
        "jsonl": f"read_json($files, format = 'newline_delimited', columns = {{{types}}})",
        "csv": f"read_csv($files, header = true, auto_detect = false, columns = {{{types}}})",
    }[kind]
    events = dataset.events
    fields = ", ".join(
        f"({getattr(events, field) or 'NULL'})::{sql} AS {name(field)}"
        for field, sql in (
            ("event_id", "VARCHAR"), ("user_id", "VARCHAR"), ("timestamp", "TIMESTAMPTZ"),
            ("action", "VARCHAR"), ("item_id", "VARCHAR"), ("value", "DOUBLE"),
            ("session_id", "VARCHAR"),
        )
    )  # fmt: skip
    keys, values = literals(events.properties), ", ".join(events.properties.values())
    rows = 0
    meter = Meter()
    with connect() as connection:
        for day in days_between(FIRST, FIRST + dt.timedelta(days=days - 1)):
            rows += connection.execute(
                f"COPY (SELECT {fields}, map([{keys}], [{values}]) AS properties FROM {reader} "
                f"ORDER BY user_id, timestamp, event_id) "
                f"TO {literal(str(home() / f'{day}.parquet'))} "
                "(FORMAT parquet, COMPRESSION zstd)",
                {"files": files_of(folder, kind, day)},
            ).fetchall()[0][0]
    return {"rows": rows, "stages": {"all": meter.lap()}, "peak_mb": meter.peak_mb()}


def footpath(folder: Path, kind: str, days: int) -> dict[str, Any]:
    """Lands, stages, audits and publishes."""
    # The gate loads it when it is first used: seconds of a process, not of its rows.
    import great_expectations  # noqa: F401

    from features.ingestion.dedup import stage_events
    from features.ingestion.landing import land
    from validation.gate import audit_events, publish

    dataset, lake = dataset_of(kind, days), Lake.of("shop")
    link_source("shop", str(folder))
    stages = {}
    meter = Meter()
    report = land(dataset, lake, None)
    stages["land"] = meter.lap()
    with lake.staging() as staging:
        staged = stage_events(dataset, lake, report.days, staging)
        stages["stage"] = meter.lap()
        verdicts = audit_events(dataset, lake, staged, staging)
        stages["gate"] = meter.lap()
        publish(lake, "events", verdicts, staging)
    stages["publish"] = meter.lap()
    rows = sum(verdict.rows_published for verdict in verdicts.values())
    if report.rows != rows:
        raise SystemExit(f"{report.rows:,} rows were read and {rows:,} published")
    return {"rows": rows, "stages": stages, "peak_mb": meter.peak_mb()}


class Meter:
    """Seconds of this process: of processor time, and by the clock."""

    def __init__(self) -> None:
        self._last = (time.process_time(), time.perf_counter())

    def lap(self) -> tuple[float, float]:
        """Returns (processor seconds, seconds) since the last lap."""
        now = (time.process_time(), time.perf_counter())
        lap = (now[0] - self._last[0], now[1] - self._last[1])
        self._last = now
        return lap

    def peak_mb(self) -> int:
        """Returns the most memory that the process has had."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


WAYS: dict[str, Callable[[Path, str, int], dict[str, Any]]] = {"limit": limit, "footpath": footpath}


def measure(way: str, folder: Path, kind: str, days: int) -> dict[str, Any]:
    """Runs one way in a process of its own, with an empty lake."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [sys.executable, "-m", "benchmarks.ingestion", "--way", way, "--format", kind]
        command += ["--days", str(days), "--folder", str(folder)]
        environment = os.environ | {"FOOTPATH_HOME": scratch}
        run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def report(kind: str, found: dict[str, dict[str, Any]]) -> None:
    """Prints one table, and fails if the ways did not find the same rows."""
    rows = {way: result["rows"] for way, result in found.items()}
    if len(set(rows.values())) > 1:
        raise SystemExit(f"{kind}: the ways differ in rows: {rows}")
    print(f"\n{kind}: {rows['limit']:,} rows")
    print(f"{'':18}{'CPU s':>8}{'s':>8}{'rows / CPU s':>14}{'of limit':>10}{'of path':>9}")
    best = found["limit"]["stages"]["all"][0]
    stages = found["footpath"]["stages"]
    path = [sum(lap[n] for lap in stages.values()) for n in (0, 1)]
    lines = {"limit": found["limit"]["stages"]["all"]} | stages | {"land to publish": path}
    for label, (cpu, seconds) in lines.items():
        rate, share = rows["limit"] / max(cpu, 1e-9), "" if label == "limit" else cpu / path[0]
        shown = f"{share:>9.0%}" if share else ""
        print(f"{label:18}{cpu:>8.2f}{seconds:>8.2f}{rate:>14,.0f}{best / cpu:>10.2f}{shown}")
    print("peak MB: " + ", ".join(f"{way} {result['peak_mb']}" for way, result in found.items()))


def main() -> None:
    """Measures both ways in both formats, or one of them if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--days", type=int, default=4)
    parser.add_argument("--format", choices=FORMATS, action="append")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        result = WAYS[arguments.way](arguments.folder, arguments.format[0], arguments.days)
        print(json.dumps(result))
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), arguments.rows, arguments.days)
        for kind in arguments.format or FORMATS:
            found = {w: measure(w, Path(folder), kind, arguments.days) for w in WAYS}
            report(kind, found)


if __name__ == "__main__":
    main()
