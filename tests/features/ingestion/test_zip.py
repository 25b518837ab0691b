"""Members of zip archives are landing files like others, whatever the archive says of itself."""

import gzip
import io
import os
import re
import struct
import tracemalloc
import zipfile
from pathlib import Path

import fsspec
import pytest

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from features.ingestion.archives import Archives
from features.ingestion.landing import land
from features.ingestion.listing import find_files
from features.ingestion.streams import read_blocks
from tests.builders.datasets import shop_like
from tests.builders.landing import landed, linked, row, zip_of


@pytest.fixture(autouse=True)
def _home(lake_home: Path) -> None:
    """What was found in archives is kept in a folder of the test's own."""


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_found_and_read_in_any_order(tmp_path, how):
    files = {"b/2.csv": b"two", "a/1.csv": os.urandom(3 << 20), "a/1.txt": b"text", "0.csv": b""}
    files |= {"ü/3.csv.gz": gzip.compress(b"three")}
    (tmp_path / "x.ZIP").write_bytes(zip_of({"a/": ""} | files, how))
    found = find_files(str(tmp_path), "*.ZIP/**/*.csv*")
    names = ["0.csv", "a/1.csv", "b/2.csv", "ü/3.csv.gz"]
    assert [file.path for file in found] == [f"x.ZIP/{name}" for name in names]
    expected = [b"", files["a/1.csv"], b"two", b"three"]
    with Archives() as archives:
        for turn in (1, -1):
            read = [b"".join(read_blocks(file, archives=archives)) for file in found[::turn]]
            assert read[::turn] == expected


def test_an_archive_at_a_url_is_read_like_one_here():
    memory = fsspec.filesystem("memory")
    memory.pipe("/zips/day.zip", zip_of({"1.csv": "one", "2.csv": "2"}))
    found = find_files("memory://zips/", "*.zip/*.csv")
    assert [(file.path, file.size) for file in found] == [
        ("day.zip/1.csv", 3),
        ("day.zip/2.csv", 1),
    ]
    assert [b"".join(read_blocks(file)) for file in found] == [b"one", b"2"]
    memory.rm("/zips", recursive=True)


def test_hourly_members_of_one_digit_or_two_land_each_with_its_arrival(tmp_path):
    folder = linked(tmp_path / "source")
    files = {
        f"1234/1234_2026-01-05_{hour}#1.json.gz": gzip.compress(
            row(str(hour), f"2026-01-05T{hour:02}:30:00Z").encode()
        )
        for hour in range(24)
    }
    (folder / "export.zip").write_bytes(zip_of(files))
    url = "export.zip/1234/*_{year}-{month}-{day}_{hour}#1.json.gz"
    shop = shop_like(landing=shop_like().landing.model_dump() | {"url": url})
    lake = Lake.of("shop")
    report = land(shop, lake, None)
    assert (report.files_read, report.rows, report.quarantined) == (24, 24, 0)
    hours = [file.arrival.hour for file in report.files if file.arrival]
    assert sorted(hours) == list(range(24))
    found = [int(id) for ids in landed(lake).values() for id in ids]
    assert sorted(found) == list(range(24))
    assert land(shop, lake, None).files_read == 0


def with_flag(content: bytes, bit: int) -> bytes:
    """A zip whose first member has a flag set, in its header and in the index."""
    data = bytearray(content)
    index = data.index(b"PK\x01\x02")
    data[6] |= bit
    data[index + 8] |= bit
    return bytes(data)


def link() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("l.csv")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def twice() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("1.csv", "a")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("1.csv", "b")
    return buffer.getvalue()


WHOLE = zip_of({"1.csv": "one" * 500, "2.csv": "two"})
# An index that it says is 4 GB large.
HUGE_INDEX = WHOLE[:-10] + struct.pack("<I", 0xFFFFFFF0) + WHOLE[-6:]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "not a zip archive, or is truncated"),
        (b"plain text" * 500, "not a zip archive, or is truncated"),
        (WHOLE[:-30], "not a zip archive, or is truncated"),
        (HUGE_INDEX, "not a zip archive, or is truncated"),
        (link(), "l.csv is a link"),
        (zip_of({"../1.csv": "one"}), "leads out of the archive"),
        (zip_of({"/tmp/1.csv": "one"}), "leads out of the archive"),
        (zip_of({"1.csv": "one"}, zipfile.ZIP_BZIP2), "is compressed in a way that is not read"),
        (with_flag(zip_of({"1.csv": "one"}), 1), "is encrypted"),
    ],
)
def test_a_broken_archive_is_told(tmp_path, content, sentence):
    (tmp_path / "x.zip").write_bytes(content)
    (file,) = find_files(str(tmp_path), "x.zip/**/*.csv")
    assert re.search(rf"x.zip.*{sentence}", file.fault)


def test_members_of_one_name_are_told(tmp_path):
    (tmp_path / "x.zip").write_bytes(twice())
    for file in find_files(str(tmp_path), "x.zip/*.csv"):
        assert file.fault == "x.zip/1.csv is in the archive more than once: pack it once"


def test_a_damaged_member_costs_itself(tmp_path, lake):
    folder = linked(tmp_path / "source")
    good, bad = (row(name, "2026-01-05T10:00:00Z") + "\n" for name in ("good", "bad"))
    content = zip_of({"1.jsonl": bad, "2.jsonl": good}, zipfile.ZIP_STORED)
    (folder / "x.zip").write_bytes(content.replace(b'"bad"', b'"dab"', 1))
    shop = shop_like(landing=shop_like().landing.model_dump() | {"url": "*.zip/*.jsonl"})
    with pytest.raises(
        FootpathError, match=r"1 of 2 landing files .*x\.zip is not a zip.*1\.jsonl"
    ):
        land(shop, lake, None)
    assert landed(lake) == {"2026-01-05": ["good"]}


def test_a_member_that_swells_is_refused_in_bounded_memory(tmp_path, lake):
    folder = linked(tmp_path / "source")
    swelling = row("bad", "2026-01-05T10:00:00Z").encode() + b"\n" * (96 << 20)
    good = (row("good", "2026-01-05T10:00:00Z") + "\n").encode()
    content = zip_of({"1.jsonl": swelling, "2.jsonl": good})
    # The index says that it is small: what comes out counts, not what is said.
    small = content.replace(struct.pack("<I", len(swelling)), struct.pack("<I", 100))
    (folder / "honest.zip").write_bytes(content)
    (folder / "liar.zip").write_bytes(small)
    landing = {"url": "*.zip/*.jsonl", "max_bytes": 4_000_000}
    shop = shop_like(landing=shop_like().landing.model_dump() | landing)
    del swelling
    tracemalloc.start()
    with pytest.raises(FootpathError, match=r"2 of 4 landing files .*honest.zip/1.jsonl has more"):
        land(shop, lake, None)
    assert tracemalloc.get_traced_memory()[1] < 80 << 20
    tracemalloc.stop()
    assert landed(lake) == {"2026-01-05": ["good", "good"]}


def test_an_archive_that_changes_while_it_is_read_is_told(tmp_path):
    (tmp_path / "x.zip").write_bytes(WHOLE)
    _, second = find_files(str(tmp_path), "x.zip/*.csv")
    (tmp_path / "x.zip").write_bytes(zip_of({"1.csv": "one"}))
    with pytest.raises(FootpathError, match=r"x\.zip has changed"):
        list(read_blocks(second))
