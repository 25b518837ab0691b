"""How fast the synthetic shop is, on one core, stage by stage and as a whole.

    python benchmarks/shop_generator.py [--users 200000] [--days 3] [--repeats 3]

The process is bound to one core and its own processor time is counted, so that "a second" means
"a second of a core". The stages run one after the other over the same days, each day measured by
itself and the best of the repeats taken, because a shared machine only ever makes things slower:

    draw    users' behavior and delivery, until rows lie in order of arrival
    lines   rows to JSON lines in memory
    gzip    zlib level 1 over those lines, and the file

`whole` is `generate_shop` itself, files, truth, catalog and users included.
"""

import argparse
import datetime as dt
import os
import resource
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from features.shop.calendar import Calendar
from features.shop.delivery import Delivery
from features.shop.event_arrays import Codes
from features.shop.generate import by_hour, generate_shop
from features.shop.gzip_files import write_gzip
from features.shop.json_lines import Lines
from features.shop.population import make_population
from features.shop.products import item_count, make_catalog
from features.shop.shopping import Behavior

START = dt.date(2026, 1, 1)


@dataclass
class Stages:
    """Seconds by stage, one figure a day, and what came of it."""

    draw: list[float] = field(default_factory=list)
    lines: list[float] = field(default_factory=list)
    gzip: list[float] = field(default_factory=list)
    rows: int = 0
    text_bytes: int = 0


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as scratch:
        runs = [
            measure_stages(Path(scratch), arguments.users, arguments.days)
            for _ in range(arguments.repeats)
        ]
        wholes = [
            measure_whole(Path(scratch) / str(n), arguments.users, arguments.days)
            for n in range(arguments.repeats)
        ]
    report(runs, min(wholes))


def measure_stages(scratch: Path, users: int, days: int) -> Stages:
    """Runs the stages in turn, day after day."""
    calendar, catalog = Calendar(START, days), make_catalog(item_count(users), seed=0)
    behavior = Behavior(catalog, make_population(users, seed=0), calendar, seed=0)
    delivery = Delivery(calendar, Codes(catalog.size), seed=0)
    lines, stages = Lines(catalog, calendar), Stages()
    for day in range(days):
        began = time.process_time()
        _, arrived = delivery.day(day, behavior.day(day))
        drawn = time.process_time()
        _, cuts = by_hour(arrived, calendar)
        texts = [text for _, text in lines.encode(arrived, cuts)]
        written = time.process_time()
        for text in texts:
            write_gzip(scratch / "hour.jsonl.gz", [text])
        stages.draw.append(drawn - began)
        stages.lines.append(written - drawn)
        stages.gzip.append(time.process_time() - written)
        stages.rows += len(arrived)
        stages.text_bytes += sum(text.size for text in texts)
    return stages


def measure_whole(folder: Path, users: int, days: int) -> float:
    """Returns the seconds that generate_shop takes."""
    began = time.process_time()
    generate_shop(folder, users, days)
    return time.process_time() - began


def report(runs: list[Stages], whole: float) -> None:
    """Prints millions of events a second of one core."""
    rows = runs[0].rows

    def best(stage: str) -> float:
        return sum(min(days) for days in zip(*(getattr(run, stage) for run in runs), strict=True))

    draw, lines, gzip = best("draw"), best("lines"), best("gzip")
    figures = {
        "draw": draw,
        "lines": lines,
        "draw + lines": draw + lines,
        "gzip": gzip,
        "draw + lines + gzip": draw + lines + gzip,
        "whole": whole,
    }
    print(f"{rows:,} rows of {runs[0].text_bytes / rows:.0f} bytes, one core")
    for name, seconds in figures.items():
        print(f"  {name:20} {rows / seconds / 1e6:6.2f} M events/s  {seconds / rows * 1e9:6.0f} ns")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  peak memory {peak:,.0f} MB")


if __name__ == "__main__":
    main()
