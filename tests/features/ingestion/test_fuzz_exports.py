"""Exports of any dialect land as an independent reader reads them: nothing is bent, lost or slow.

FUZZ_FILES=10000 FUZZ_SEED=7 pytest -m long tests/features/ingestion/test_fuzz_exports.py
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.config.sources import link_source
from contracts.lake.layout import Lake
from features.ingestion.dedup import stage_events
from features.ingestion.landing import land
from tests.builders.datasets import shop_like
from tests.builders.exports import FAMILIES, Family, Maker
from tests.builders.exports_read import Event, read, unpacked

Place = tuple[str, int]  # path, line


def dataset_of(family: Family) -> Dataset:
    columns = dict.fromkeys(("id", "user", "ts", "act", "item"), "VARCHAR")
    columns |= {"price": "DOUBLE", "n": "BIGINT", "note": "VARCHAR"}
    properties = {"n": "n", "note": "note"}
    if family.format == "jsonl":
        columns["p"] = "STRUCT(k VARCHAR, v BIGINT)"
        properties |= {"k": "p.k", "v": "p.v"}
    optional = list(columns) if family.csv.get("header", True) else []
    url = f"*{family.container}/**/*" if family.container else "**/*"
    landing = {"url": url, "format": family.format, "csv": family.csv, "columns": columns}
    landing |= {"optional": optional, "nulls": list(family.nulls)}
    events = {"event_id": "id", "user_id": '"user"', "timestamp": "TRY_CAST(ts AS TIMESTAMPTZ)"}
    events |= {"action": "act", "item_id": "item", "value": "price", "properties": properties}
    return shop_like(
        timezone="UTC",
        partitions={"start": "2026-01-01", "end": "2026-01-31"},
        landing=landing,
        events=events,
        quality={"max_refused_share": 1, "max_broken_share": 1},
    )


def events_of(folder: Path, pattern: str) -> Iterator[dict[str, Any]]:
    for path in folder.glob(pattern):
        yield from pq.ParquetFile(path).read().to_pylist()


def event_of(row: dict[str, Any]) -> Event:
    properties = tuple(sorted(row["properties"] or ()))
    fields = ("event_id", "user_id", "timestamp", "action", "item_id", "value")
    return Event(*(row[field] for field in fields), properties)


def natural(path: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]


def check(family: Family, folder: Path, count: int, seed: int) -> Counter[str]:
    """Lands files of a family, and compares all that came of them with the independent reader."""
    source = folder / "source"
    expected: dict[Place, Event | None] = {}
    for path, content in Maker(family, seed).files(count).items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(content)
        for name, text in unpacked(path, content):
            expected |= {(name, line): event for line, event in read(family, text).items()}
    link_source("shop", str(source))
    dataset, lake = dataset_of(family), Lake.of("shop")
    faults = ""
    try:
        land(dataset, lake, None)
    except FootpathError as error:
        faults = str(error)
    found: dict[Place, Event | None] = {}
    for row in events_of(lake.table("landing"), "fragments/*/*.parquet"):
        found[row["source_file"], row["source_line"]] = event_of(row)
    for row in events_of(lake.table("quarantine"), "landing/*.parquet"):
        assert (row["source_file"], row["source_line"]) not in found
        found[row["source_file"], row["source_line"]] = None
    # A file none of whose rows can be read is refused whole, with a sentence.
    landed = {path for path, _ in found}
    refused = {path for path, _ in expected} - landed
    assert all(expected[place] is None for place in expected if place[0] in refused), faults
    assert bool(refused) == bool(faults), faults
    wrong = [
        (place, expected.get(place, "no row"), found.get(place, "no row"))
        for place in sorted(expected.keys() | found.keys())
        if place[0] not in refused and expected.get(place, 0) != found.get(place, 0)
    ]
    assert wrong == [], f"{family.name}, seed {seed}: {len(wrong)} rows, such as {wrong[:3]}"
    check_order(dataset, lake, folder, {p: e for p, e in found.items() if e is not None})
    return Counter(files=len({p for p, _ in expected}), rows=len(expected),
                   refused=sum(event is None for event in expected.values()))  # fmt: skip


def check_order(dataset: Dataset, lake: Lake, folder: Path, found: dict[Place, Event]) -> None:
    """Of each id of a day the first delivery counts, and ties are in the order of delivery."""
    delivered = sorted(found, key=lambda place: (natural(place[0]), place[0], place[1]))
    kept: dict[Any, Event] = {}
    for place in delivered:
        event = found[place]
        kept.setdefault((event.timestamp.date(), event.event_id or place), event)
    ties: dict[Any, list[Event]] = defaultdict(list)
    for place, event in kept.items():  # those without a user have no order
        ties[event.user_id or place, event.timestamp].append(event)
    expected = Counter((event, n) for tied in ties.values() for n, event in enumerate(tied))
    staging = folder / "staged"
    staging.mkdir()
    days = sorted({event.timestamp.date() for event in kept.values()})
    staged = stage_events(dataset, lake, days, staging)
    rows = [row for day in staged.values() for row in pq.ParquetFile(day.path).read().to_pylist()]
    assert Counter((event_of(row), row["sequence"]) for row in rows) == expected


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_some_files_of_each_dialect_are_read_as_they_mean(tmp_path, lake_home, family):
    seen = check(family, tmp_path, 5, seed=1)
    assert seen["rows"] > seen["refused"]


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_ten_thousand_files_are_read_as_they_mean(tmp_path, monkeypatch, family):
    files = int(os.environ.get("FUZZ_FILES", "10000")) // len(FAMILIES) + 1
    seed, total, of_landing = int(os.environ.get("FUZZ_SEED", "0")), Counter(), 300
    for number in range(0, files, of_landing):
        folder = tmp_path / str(number)
        monkeypatch.setenv("FOOTPATH_HOME", str(folder / "home"))
        total += check(family, folder, min(of_landing, files - number), seed * 1000 + number)
    print(f"{family.name}: {dict(total)}")
    assert total["rows"] > total["refused"] > 0
