"""A file that is hostile, broken or huge costs itself: the others land, and memory is bounded."""

import gzip
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from features.ingestion.landing import land
from tests.builders.datasets import dataset_like, shop_like
from tests.builders.landing import landed, linked, row, tar_of
from tests.conftest import REPOSITORY

GOOD = row("good", "2026-01-05T10:00:00Z") + "\n"
BAD = row("bad", "2026-01-05T10:00:00Z") + "\n"


def header(kind: bytes, size: int) -> bytes:
    """A tar header that says that another header of some size follows."""
    found = tarfile.TarInfo("x")
    found.type, found.size = kind, size
    return found.tobuf(tarfile.USTAR_FORMAT)


def write(folder: Path, name: str | bytes, content: bytes) -> None:
    with open(os.path.join(os.fsencode(folder), os.fsencode(name)), "wb") as file:
        file.write(content)


def dataset(url: str, **landing: object):
    return shop_like(landing=shop_like().landing.model_dump() | {"url": url} | landing)


@pytest.mark.parametrize(
    ("url", "name", "content", "sentence"),
    [
        ("*.jsonl", b"a\xff.jsonl", BAD.encode(), r"a\udcff.jsonl has a name that is not UTF-8"),
        ("*.tar/**/*.jsonl", "a.tar", tar_of({"../x.jsonl": BAD}), "a.tar/../x.jsonl has a name"),
        ("*.tar/**/*.jsonl", "a.tar", tar_of({"x.jsonl": BAD})[:700], "a.tar is not a tar archive"),
        (
            "*.tar/**/*",
            "a.tar",
            tar_of({"x.tar": tar_of({"x.tar": b""})}),
            "a.tar/x.tar is an archive: say which of its members to read",
        ),
        (
            "*.tar/**/*.jsonl",
            "a.tar",
            (header(tarfile.XHDTYPE, 12) + b"12 path=abc\n".ljust(512, b"\0")) * 2000 + bytes(1024),
            "a.tar is not a tar archive, or is truncated or damaged",
        ),
        (
            "*.tar/**/*.jsonl",
            "a.tar",
            header(tarfile.GNUTYPE_LONGNAME, 4 << 20) + b"x" * (4 << 20) + bytes(1024),
            "a header of more than 1 MB",
        ),
        ("*.jsonl", "a.jsonl", b'{"id": "' + b"x" * (40 << 20), "a.jsonl has 32 MB without a line"),
    ],
    ids=["name", "leads out", "truncated", "tar in tar", "headers of headers", "header", "line"],
)
def test_a_file_that_cannot_be_used_is_named_and_the_others_land(
    tmp_path, lake, url, name, content, sentence
):
    folder = linked(tmp_path / "source")
    write(folder, name, content)
    is_tar = ".tar/" in url
    write(folder, "b.tar" if is_tar else "b.jsonl", tar_of({"x.jsonl": GOOD}) if is_tar else
          GOOD.encode())  # fmt: skip
    with pytest.raises(FootpathError) as raised:
        land(dataset(url), lake, None)
    assert sentence in str(raised.value)
    assert "1 of 2 landing files cannot be used (the others are landed)" in str(raised.value)
    assert landed(lake) == {"2026-01-05": ["good"]}


def test_a_broken_archive_is_of_the_day_in_its_name_and_costs_no_other_day(tmp_path, lake):
    folder = linked(tmp_path / "source")
    write(folder, "2026-01-05.tar", tar_of({"x.jsonl": GOOD}))
    write(folder, "2026-01-06.tar", b"no archive")
    daily = dataset("{year}-{month}-{day}.tar/*.jsonl")
    days = [daily.partitions.start.replace(day=number) for number in (5, 6)]
    assert land(daily, lake, days[:1]).rows == 1
    with pytest.raises(FootpathError, match=r"1 of 1 landing files .* 2026-01-06.tar is not a tar"):
        land(daily, lake, days[1:])


def test_an_expression_that_fails_is_named_with_the_value_and_what_to_write(tmp_path, lake):
    folder = linked(tmp_path / "source")
    lines = [GOOD, row("bad", "2026-01-05T11:00:00Z", price="N/A") + "\n"]
    write(folder, "a.jsonl", "".join(lines).encode())
    columns = shop_like().landing.columns | {"price": "VARCHAR"}
    events = shop_like().events.model_dump() | {"value": "price::DOUBLE"}
    priced = dataset_like(
        "shop",
        landing=shop_like().landing.model_dump() | {"url": "*.jsonl", "columns": columns},
        events=events,
    )
    land(priced, lake, None)
    (path,) = (lake.table("quarantine") / "landing").glob("*.parquet")
    (refused,) = pq.read_table(path).to_pylist()
    assert refused["detail"] == (
        "events.value: `price::DOUBLE` fails where price is 'N/A': "
        "`TRY_CAST(price AS DOUBLE)` gives null there"
    )
    assert landed(lake) == {"2026-01-05": ["good"]}


def test_a_file_with_more_bytes_than_max_bytes_is_refused(tmp_path, lake):
    folder = linked(tmp_path / "source")
    write(folder, "a.jsonl.gz", gzip.compress(BAD.encode() + b"\n" * 5_000_000))
    write(folder, "b.jsonl.gz", gzip.compress(GOOD.encode()))
    with pytest.raises(FootpathError, match=r"a.jsonl.gz has more than 4,000,000 bytes when"):
        land(dataset("*.jsonl.gz", max_bytes=4_000_000), lake, None)
    assert landed(lake) == {"2026-01-05": ["good"]}


def test_a_parquet_whose_dictionary_hides_its_size_is_refused(tmp_path, lake):
    folder, rows = linked(tmp_path / "source"), 100_000
    columns = shop_like().landing.columns
    values = dict.fromkeys(columns, "1") | {"ts": "2026-01-05T10:00:00Z", "id": "x" * 500}
    zeros = pa.array([0] * rows, pa.int32())
    table = pa.table(
        {c: pa.DictionaryArray.from_arrays(zeros, [v]).cast(pa.string()) for c, v in values.items()}
    )
    pq.write_table(table, folder / "a.parquet")
    assert (folder / "a.parquet").stat().st_size < 100_000
    types = dict.fromkeys(columns, "VARCHAR")
    limited = {"format": "parquet", "columns": types, "max_bytes": 20_000_000}
    with pytest.raises(FootpathError, match=r"a.parquet has more than 20,000,000 bytes"):
        land(dataset("*.parquet", **limited), lake, None)


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        ("BIGINT", pa.array([1] * 200_000)),
        ("VARCHAR[]", pa.array([["x" * 50]] * 20_000)),
        ("STRUCT(a VARCHAR)", pa.array([{"a": "x" * 50}] * 20_000)),
    ],
)
def test_a_parquet_of_many_rows_or_nested_texts_is_refused(tmp_path, lake, kind, column):
    folder = linked(tmp_path / "source")
    times = pa.array(["2026-01-05T10:00:00Z"] * len(column)).dictionary_encode()
    pq.write_table(pa.table({"ts": times, "n": column}), folder / "a.parquet")
    assert (folder / "a.parquet").stat().st_size < 50_000
    limited = {"format": "parquet", "columns": {"ts": "VARCHAR", "n": kind}, "max_bytes": 1_000_000}
    events = {"user_id": "'u'", "timestamp": "TRY_CAST(ts AS TIMESTAMPTZ)", "action": "'view'"}
    shop = shop_like(landing={"url": "*.parquet"} | limited, events=events)
    with pytest.raises(FootpathError, match=r"a.parquet has more than 1,000,000 bytes"):
        land(shop, lake, None)


def newlines() -> bytes:
    return gzip.compress(BAD.encode() + b"\n" * (16 << 20))


def long_header() -> bytes:
    size = 400 << 20
    return gzip.compress(header(tarfile.XHDTYPE, size) + bytes(size), 1)


def wide_row() -> bytes:
    return gzip.compress(b"id,ts\nbad,2026-01-05T10:00:00Z\n" + b"," * (16 << 20) + b"\n")


LAND = r"""
import re, sys
from pathlib import Path
from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from features.ingestion.landing import land
from tests.builders.datasets import shop_like
shop = shop_like()
columns = {"columns": {"id": "VARCHAR", "ts": "VARCHAR"}} if ".csv" in sys.argv[1] else {}
given = {"url": sys.argv[1], "format": "csv" if columns else "jsonl"} | columns
events = {"event_id": "id", "user_id": "id", "timestamp": "ts", "action": "'view'"}
shop = shop_like(landing=shop.landing.model_dump() | given, events=events)
try:
    land(shop, Lake.of("shop"), None)
except FootpathError as error:
    print(error, file=sys.stderr)
# What getrusage tells would be of the process that started this one, if that had more.
print(int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) >> 10)
"""


@pytest.mark.parametrize(
    ("url", "name", "content", "most"),
    [
        ("*.csv.gz", "a.csv.gz", newlines, 500),
        ("*.tar.gz/*.csv", "a.tar.gz", long_header, 500),
        ("*.csv.gz", "a.csv.gz", wide_row, 1000),
    ],
    ids=["newlines", "a header", "a row"],
)
def test_memory_is_bounded_whatever_swells(
    tmp_path, lake_home, monkeypatch, url, name, content: Callable[[], bytes], most
):
    folder = linked(tmp_path / "source")
    write(folder, name, content())
    good = b"id,ts\ngood,2026-01-05T10:00:00Z\n"
    if ".tar" in name:
        write(folder, "b.tar.gz", gzip.compress(tar_of({"b.csv": good})))
    else:
        write(folder, "b.csv.gz", gzip.compress(good))
    monkeypatch.setenv("FOOTPATH_MEMORY", "300MB")
    command = [sys.executable, "-c", LAND, url]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert int(done.stdout) < most, done.stderr
    assert "good" in landed(Lake.of("shop"))["2026-01-05"]
