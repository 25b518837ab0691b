"""What a disk does not take is one sentence, with the file's name."""

import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from contracts.base.disks import disk_sentence, writing
from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from features.shop.gzip_files import write_gzip
from models.checkpoint import write_tensors

LIMIT = 1 << 16


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may be larger than 64 KiB, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


NUMBERS = torch.arange(1 << 17)


def a_table(folder: Path) -> None:
    publish_table(Lake(folder), pa.table({"n": NUMBERS.numpy()}), folder / "n.parquet")


def a_day(folder: Path) -> None:
    with Lake(folder).staging() as staging:
        pq.write_table(pa.table({"n": [1]}), staging / "2026-01-01.parquet")
        table = pa.table({"n": NUMBERS.numpy()})
        with pq.ParquetWriter(staging / "2026-01-02.parquet", table.schema) as writer:
            writer.write_table(table)


def weights(folder: Path) -> None:
    write_tensors(folder / "model.safetensors", {"n": NUMBERS})


def a_file_of_the_shop(folder: Path) -> None:
    noise = torch.randint(0, 256, (1 << 17,), dtype=torch.uint8).numpy().tobytes()
    write_gzip(folder / "23.jsonl.gz", [pa.py_buffer(noise)])


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (a_table, "n.parquet"),
        (a_day, "2026-01-02.parquet"),
        (weights, "model.safetensors"),
        (a_file_of_the_shop, "23.jsonl.gz"),
    ],
)
def test_a_file_that_its_disk_does_not_take_is_named(small_files, tmp_path: Path, write, name):
    with pytest.raises(FootpathError, match=rf"{name} cannot be written: File too large \(its di"):
        write(tmp_path)


def test_a_database_that_its_disk_does_not_take_is_named(tmp_path: Path):
    path = tmp_path / "runs.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(FootpathError, match=r"runs\.db cannot be written: database"), writing(path):
        connection.execute("CREATE TABLE a AS SELECT 1")


def test_other_errors_stay_what_they_are(tmp_path: Path):
    assert disk_sentence("[Errno 13] Permission denied", tmp_path) is None
    with pytest.raises(KeyError), writing(tmp_path):
        raise KeyError("n")
    with pytest.raises(FootpathError, match="a sentence"), writing(tmp_path):
        raise FootpathError("a sentence: No space left on device")
