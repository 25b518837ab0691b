"""Whatever is wrong with a file, it ends in a sentence or in quarantine, and no row is lost.

The kinds are in broken_files.py; random damage stands beside them.
"""

import datetime as dt
import gzip
import os
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zstandard

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.config.sources import link_source
from contracts.lake.layout import Lake
from features.ingestion.landing import land
from tests.builders.datasets import dataset_like
from tests.features.ingestion import broken_files as broken

GOOD = {
    "jsonl": ("a.jsonl", broken.JSONL),
    "gzip": ("a.jsonl.gz", gzip.compress(broken.JSONL)),
    "zstd": ("a.jsonl.zst", zstandard.ZstdCompressor(write_checksum=True).compress(broken.JSONL)),
    "csv": ("a.csv", broken.CSV),
    "parquet": ("a.parquet", broken.parquet()),
}


def dataset_of(name: str) -> Dataset:
    """Returns a data set whose landing files are like one."""
    kind = name.split(".")[1]
    return dataset_like(
        "shop",
        timezone="UTC",
        partitions={"start": dt.date(2026, 1, 1), "end": dt.date(2026, 1, 10)},
        landing={"url": "a.*", "format": kind, "columns": broken.COLUMNS},
        events={"event_id": "id", "user_id": '"user"', "timestamp": "ts", "action": "'view'"}
        | {"value": "price", "properties": {"n": "n"}},
    )


def outcome(folder: Path, name: str, data: bytes) -> str | tuple[int, int]:
    """Lands a file, checks that its rows are all there, and says what became of it."""
    (folder / "source").mkdir(exist_ok=True)
    (folder / "source" / name).write_bytes(data)
    link_source("shop", str(folder / "source"))
    lake = Lake.of("shop")
    report, fault = None, ""
    try:
        report = land(dataset_of(name), lake, None)
    except FootpathError as error:
        fault = str(error)
    written = rows_in(lake, "landing/fragments"), rows_in(lake, "quarantine/landing")
    if report is None:
        assert name in fault
        assert written[0] == 0, "a file that was refused has no events"
        return fault
    assert sum(written) == report.rows
    assert written[1] == report.quarantined
    return written


def rows_in(lake: Lake, table: str) -> int:
    """Counts the rows below a folder of the lake."""
    files = lake.table(table).rglob("*.parquet")
    return sum(pq.read_metadata(path).num_rows for path in files)


@pytest.fixture(autouse=True)
def _small(lake_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest row is short, so that files longer than it are."""
    monkeypatch.setattr("features.ingestion.reader.CHUNK", 1 << 20)
    monkeypatch.setattr("features.ingestion.reader.LONGEST_ROW", 8 << 20)


@pytest.mark.parametrize("kind", broken.KINDS)
def test_a_broken_file_is_told_or_its_rows_are_refused(kind, tmp_path):
    name, data, expected = broken.KINDS[kind]
    found = outcome(tmp_path, name, data)
    if isinstance(expected, str):
        with pytest.raises(FootpathError, match=expected):
            raise FootpathError(found)
    else:
        assert found == expected


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", GOOD)
def test_random_damage_is_told_or_its_rows_are_refused(kind, seed, tmp_path):
    name, data = GOOD[kind]
    chance = random.Random(f"{kind} {seed}")
    damaged = bytearray(data)
    for _ in range(chance.choice([1, 1, 3, 20])):
        place = chance.randrange(len(damaged))
        match chance.randrange(4):
            case 0:
                damaged[place] ^= 1 << chance.randrange(8)
            case 1:
                damaged[place] = chance.randrange(256)
            case 2:
                del damaged[place : place + chance.randrange(1, 30)]
            case 3:
                damaged[place:place] = chance.randbytes(chance.randrange(1, 30))
    found = outcome(tmp_path, name, bytes(damaged))
    if kind in ("gzip", "zstd"):  # both carry a checksum
        assert isinstance(found, str) or found == broken.ALL
    elif isinstance(found, tuple) and kind in ("jsonl", "csv"):
        lines = [line for line in bytes(damaged).split(b"\n") if line.strip()]
        assert sum(found) <= len(lines)
        assert sum(found) >= (len(lines) - 1) * 0.5


def test_a_name_that_is_not_utf8_is_told(tmp_path):
    (tmp_path / "source").mkdir()
    bad = os.fsencode(tmp_path / "source") + b"/a.\xff.jsonl"
    with open(bad, "wb") as handle:
        handle.write(broken.JSONL)
    link_source("shop", str(tmp_path / "source"))
    with pytest.raises(FootpathError, match=r"udcff.*a name that is not UTF-8: rename it"):
        land(dataset_of("a.jsonl"), Lake.of("shop"), None)


def test_folders_pipes_and_dead_links_are_no_files(tmp_path):
    folder = tmp_path / "source"
    (folder / "a.jsonl").mkdir(parents=True)
    (folder / "a.2.jsonl").symlink_to("nowhere")
    (folder / "a.3.jsonl").symlink_to("a.3.jsonl")
    os.mkfifo(folder / "a.4.jsonl")
    link_source("shop", str(folder))
    with pytest.raises(FootpathError, match="no landing file"):
        land(dataset_of("a.jsonl"), Lake.of("shop"), None)
