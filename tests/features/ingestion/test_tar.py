"""Members of archives are landing files like others, read in one pass and never unpacked."""

import datetime as dt
import gzip
import io
import os
import re
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from contracts.base.errors import FootpathError
from contracts.config.sources import link_source
from contracts.lake.layout import Lake
from features.ingestion import archives as archives_module
from features.ingestion.archives import Archives, members
from features.ingestion.archives import tar as tar_module
from features.ingestion.landing import land
from features.ingestion.listing import find_files
from features.ingestion.lookup_tables import build_items
from features.ingestion.streams import read_blocks
from tests.builders.datasets import dataset_like, shop_like
from tests.builders.landing import Source, landed, refused, row, tar_of
from tests.conftest import REAL_DATA

PACK = {".tar": bytes, ".tar.gz": gzip.compress, ".tgz": gzip.compress}
PACK[".tar.zst"] = zstandard.compress
HOURS = {f"{hour:02}.jsonl": row(str(hour), f"2026-01-05T{hour:02}:30:00Z") for hour in range(24)}
ARCHIVED = shop_like(
    landing=shop_like().landing.model_dump()
    | {"url": "{year}-{month}-{day}.tar.gz/events/{hour}.jsonl"}
)


@pytest.fixture(autouse=True)
def _home(lake_home: Path) -> None:
    """What was found in archives is kept in a folder of the test's own."""


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The archives that were opened, in order."""
    calls: list[str] = []
    open_url = archives_module.open_url
    for module in (archives_module, tar_module):
        monkeypatch.setattr(
            module, "open_url", lambda url: calls.append(Path(url).name) or open_url(url)
        )
    return calls


@pytest.mark.parametrize("suffix", PACK)
def test_members_are_found_and_read_whatever_the_compression(tmp_path, suffix):
    files = {"./b/2.csv": "two", "a/1.csv": os.urandom(3 << 20), "a/1.txt": "text", "0.csv": ""}
    (tmp_path / f"x{suffix}").write_bytes(PACK[suffix](tar_of(files)))
    found = find_files(str(tmp_path), f"*{suffix}/**/*.csv")
    assert [file.path for file in found] == [f"x{suffix}/{n}.csv" for n in ("0", "a/1", "b/2")]
    read = [b"".join(read_blocks(file)) for file in found]
    assert read == [b"", files["a/1.csv"], b"two"]


def test_a_member_may_be_compressed_itself(tmp_path):
    packed = {"1.csv.gz": gzip.compress(b"one"), "2.csv.zst": zstandard.compress(b"two")}
    (tmp_path / "x.tar").write_bytes(tar_of(packed))
    found = find_files(str(tmp_path), "x.tar/*")
    assert [b"".join(read_blocks(file)) for file in found] == [b"one", b"two"]


def test_names_longer_than_a_header_are_read(tmp_path):
    name = "/".join(["folder" * 20] * 3) + "/ü.csv"
    (tmp_path / "x.tar").write_bytes(tar_of({name: "x", "y.csv": "y"}))
    assert [f.path for f in find_files(str(tmp_path), "x.tar/**/*.csv")] == [
        f"x.tar/{name}",
        "x.tar/y.csv",
    ]


def test_an_archive_at_a_url_is_read_like_one_here():
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/day.tar.zst", zstandard.compress(tar_of({"1.csv": "one", "2.csv": "2"})))
    found = find_files("memory://bucket/", "*.tar.zst/*.csv")
    assert [file.path for file in found] == ["day.tar.zst/1.csv", "day.tar.zst/2.csv"]
    assert [b"".join(read_blocks(file)) for file in found] == [b"one", b"2"]
    assert find_files("", "memory://bucket/day.tar.zst/1.csv")[0].size == 3
    memory.rm("/bucket", recursive=True)


def test_members_land_each_with_its_own_arrival_in_one_pass(tmp_path, opened, monkeypatch):
    source = Source(tmp_path / "source")
    shuffled = dict(sorted(HOURS.items(), key=lambda item: int(item[0][:2]) * 7 % 24))
    packed = gzip.compress(tar_of({f"events/{n}": text for n, text in shuffled.items()}))
    (source.folder / "2026-01-05.tar.gz").write_bytes(packed)
    monkeypatch.setattr("features.ingestion.landing.PASS_FILES", 5)
    lake = Lake.of("shop")
    report = land(ARCHIVED, lake, None)
    assert (report.files_read, report.rows, report.quarantined) == (24, 24, 0)
    assert sum(map(len, landed(lake).values())) == 24
    assert opened == ["2026-01-05.tar.gz"] * 2  # to find the members, and to read them
    assert land(ARCHIVED, lake, None).files_read == 0
    assert len(opened) == 2  # what is as it was is known without a look into it


def test_only_the_members_that_changed_are_new(tmp_path):
    source = Source(tmp_path / "source")
    archive = source.folder / "2026-01-05.tar.gz"
    lake = Lake.of("shop")
    archive.write_bytes(gzip.compress(tar_of({f"events/{n}": t for n, t in HOURS.items()})))
    land(ARCHIVED, lake, None)
    changed = HOURS | {"07.jsonl": row("new", "2026-01-05T07:00:00Z")}
    archive.write_bytes(gzip.compress(tar_of({f"events/{n}": t for n, t in changed.items()})))
    report = land(ARCHIVED, lake, None)
    assert [file.path for file in report.files] == ["2026-01-05.tar.gz/events/07.jsonl"]
    assert "new" in landed(lake)["2026-01-05"]
    assert "7" not in landed(lake)["2026-01-05"]


def test_a_parquet_member_is_read(tmp_path):
    source = Source(tmp_path / "source")
    buffer = io.BytesIO()
    columns = shop_like().landing.columns
    values = {"id": "a", "user": "u", "ts": "2026-01-05T10:00:00Z", "type": "view", "price": 1.0}
    pq.write_table(pa.table({column: [values.get(column, "x")] for column in columns}), buffer)
    (source.folder / "all.tar.zst").write_bytes(
        zstandard.compress(tar_of({"1": buffer.getvalue()}))
    )
    parquet = shop_like(landing={"url": "all.tar.zst/*", "format": "parquet", "columns": columns})
    land(parquet, Lake.of("shop"), None)
    assert landed(Lake.of("shop")) == {"2026-01-05": ["a"]}


def test_items_may_lie_in_an_archive(tmp_path):
    link_source("shop", str(tmp_path))
    shop = shop_like()
    assert shop.items
    header = ",".join(shop.items.columns)
    lines = {f"{n}.csv": f"{header}\n{n}{',' * header.count(',')}\n" for n in "123"}
    (tmp_path / "items.tar").write_bytes(tar_of(lines))
    packed = shop_like(items=shop.items.model_dump() | {"url": "items.tar/*.csv"})
    assert build_items(packed, Lake.of("shop")) == 3


WHOLE = tar_of({"1.csv": "one" * 500, "2.csv": "two"})
END = len(WHOLE.rstrip(b"\0")) // 512 * 512 + 512  # of the last member


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "not a tar archive, or is truncated"),
        (b"plain text", "not a tar archive, or is truncated"),
        (b"plain text" * 500, "not a tar archive, or is truncated"),
        (WHOLE[:700], "not a tar archive, or is truncated"),
        (WHOLE[:END], "not a tar archive, or is truncated"),  # only its end mark is missing
        (WHOLE[:2048] + b"x" * 512 + WHOLE[2560:], "not a tar archive, or is truncated"),
        (WHOLE + WHOLE, "goes on behind its end mark"),
        (tar_of({"1.csv": "one"}, {"l.csv": "/etc/passwd"}), "l.csv is a link"),
        (tar_of({"../1.csv": "one"}), "leads out of the archive"),
        (tar_of({"/tmp/1.csv": "one"}), "leads out of the archive"),
        (tar_of({"1.csv": "a", "./1.csv": "b"}), "more than once"),
        (tar_of({"bad\udcff.csv": "one"}), "not UTF-8"),
    ],
)
def test_a_broken_archive_is_told(tmp_path, content, sentence):
    (tmp_path / "x.tar").write_bytes(content)
    faults = {file.fault for file in find_files(str(tmp_path), "x.tar/**/*.csv")} - {""}
    (fault,) = faults
    assert re.search(rf"x.tar.*{sentence}", fault)


def test_members_that_no_pattern_names_may_be_anything(tmp_path):
    tar = tar_of({"1.csv": "one", "../2.txt": "out"}, {"latest": "1.csv"})
    (tmp_path / "x.tar").write_bytes(tar)
    assert [file.path for file in find_files(str(tmp_path), "x.tar/*.csv")] == ["x.tar/1.csv"]


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.zst"])
def test_a_compressed_archive_that_ends_too_early_is_told(tmp_path, suffix):
    whole = PACK[suffix](tar_of({"1.csv": os.urandom(999)}))
    for length in range(0, len(whole), 97):
        (tmp_path / f"x{suffix}").write_bytes(whole[:length])
        (file,) = find_files(str(tmp_path), f"x{suffix}/*")
        assert f"x{suffix} is a truncated" in file.fault


def test_an_archive_that_changes_while_it_is_read_is_told(tmp_path):
    (tmp_path / "x.tar").write_bytes(WHOLE)
    first, second = find_files(str(tmp_path), "x.tar/*.csv")
    (tmp_path / "x.tar").write_bytes(WHOLE[:600])
    with Archives() as archives, pytest.raises(FootpathError, match=r"x\.tar has changed"):
        list(read_blocks(first, archives=archives))
    with pytest.raises(FootpathError, match=r"x\.tar has changed"):
        list(read_blocks(second))


def test_an_archive_without_members_named_is_told(tmp_path):
    (tmp_path / "x.tar").write_bytes(WHOLE)
    (found,) = find_files(str(tmp_path), "x.tar")
    with pytest.raises(FootpathError, match=r"x.tar is an archive: say which of its members"):
        list(read_blocks(found))


def test_what_was_found_is_looked_for_again_if_the_notes_are_broken(tmp_path, lake_home):
    (tmp_path / "x.tar").write_bytes(WHOLE)
    path = str(tmp_path / "x.tar")
    found = members("x.tar", path, "1")
    (notes,) = (lake_home / "archives").glob("*.json")
    notes.write_text("{")
    assert members("x.tar", path, "1") == found
    (tmp_path / "x.tar").write_bytes(tar_of({"3.csv": ""}))
    assert members("x.tar", path, "1") == found
    assert [member.name for member in members("x.tar", path, "2")] == ["3.csv"]


def test_the_genuine_online_retail_days_land_whole(lake_home):
    folder = REAL_DATA / "online-retail"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: put by-day.tar.zst of Online Retail in it")
    link_source("shop", str(folder))
    columns = {"InvoiceNo": "VARCHAR", "StockCode": "VARCHAR", "InvoiceDate": "TIMESTAMP"}
    retail = dataset_like(
        "shop",
        timezone="Europe/London",
        partitions={"start": "2010-12-01", "end": "2010-12-03"},
        landing={
            "url": "by-day.tar.zst/by-day/{year}-{month}-{day}.csv",
            "format": "csv",
            "columns": columns,
        },
        events={
            "user_id": "InvoiceNo",
            "item_id": "StockCode",
            "timestamp": "timezone('Europe/London', InvoiceDate)",
            "action": "'buy'",
        },
    )
    report = land(retail, Lake.of("shop"), [dt.date(2010, 12, day) for day in (1, 2, 3)])
    assert [file.path[-14:] for file in report.files] == [f"2010-12-0{n}.csv" for n in (1, 2, 3)]
    assert (report.rows, report.quarantined) == (7_419, 0)
    assert not refused(Lake.of("shop"))
