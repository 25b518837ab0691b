"""Files are found and read whole, whatever their compression and wherever they lie."""

import gzip
import os
from pathlib import Path

import fsspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.base.errors import FootpathError
from contracts.base.hashing import Hasher, hash_bytes
from features.ingestion.listing import find_files
from features.ingestion.streams import Prefetch, SourceFile, read_blocks

PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


def only(folder: Path | str, pattern: str = "*"):
    (file,) = find_files(str(folder), pattern)
    return file


@pytest.mark.parametrize("suffix", PACK)
@settings(max_examples=20, deadline=None)
@given(parts=st.lists(st.binary(max_size=500), min_size=1, max_size=3))
def test_streams_one_after_the_other_are_read_as_one(tmp_path_factory, suffix, parts):
    folder = tmp_path_factory.mktemp("source")
    packed = b"".join(map(PACK[suffix], parts))
    (folder / f"a{suffix}").write_bytes(packed)
    digest = Hasher()
    assert b"".join(read_blocks(only(folder), digest)) == b"".join(parts)
    assert digest.hexdigest() == hash_bytes(packed)


@pytest.mark.parametrize(("suffix", "kind"), [(".gz", "gzip"), (".zst", "zstd")])
def test_a_file_that_ends_too_early_is_never_taken_for_whole(tmp_path, suffix, kind):
    whole = PACK[suffix](os.urandom(300))
    for length in range(1, len(whole)):
        (tmp_path / f"a{suffix}").write_bytes(whole[:length])
        with pytest.raises(FootpathError, match=f"a{suffix} is a truncated {kind}.*ask for it"):
            list(read_blocks(only(tmp_path)))


def test_padding_after_a_gzip_stream_is_no_data(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"text") + bytes(512))
    assert b"".join(read_blocks(only(tmp_path))) == b"text"


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_bytes_that_are_not_what_the_name_says_are_told(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes(b"plain text, not compressed at all")
    with pytest.raises(FootpathError, match=f"a{suffix} is not what its name says"):
        list(read_blocks(only(tmp_path)))


def test_a_damaged_gzip_is_told(tmp_path):
    packed = bytearray(gzip.compress(os.urandom(1000)))
    packed[-6] ^= 1  # the checksum
    (tmp_path / "a.gz").write_bytes(packed)
    with pytest.raises(FootpathError, match=r"a.gz is not what its name says, or is damaged"):
        list(read_blocks(only(tmp_path)))


def test_an_archive_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "a.csv.XZ").write_bytes(b"\xfd7zXZ\0")
    with pytest.raises(FootpathError, match="unpack it"):
        list(read_blocks(only(tmp_path)))


def test_files_are_found_below_the_folder_by_pattern_and_in_order(tmp_path):
    for name in ("b/2.csv", "a/1.csv", "a/1.txt", "c.csv", "a/deep/3.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "a" / "folder.csv").mkdir()
    found = find_files(str(tmp_path), "*/*.csv")
    assert [file.path for file in found] == ["a/1.csv", "b/2.csv"]
    assert [file.size for file in found] == [7, 7]
    assert [f.path for f in find_files(str(tmp_path), "**/3.csv")] == ["a/deep/3.csv"]
    absolute = str(tmp_path / "a" / "*.csv")
    assert [f.path for f in find_files("nowhere", absolute)] == [str(tmp_path / "a/1.csv")]
    assert [f.path for f in find_files("", f"file://{absolute}")] == [str(tmp_path / "a/1.csv")]


def test_the_stamp_changes_when_the_file_does(tmp_path):
    (tmp_path / "a").write_text("one")
    before = only(tmp_path)
    assert only(tmp_path) == before
    os.utime(tmp_path / "a", ns=(1, 1))
    assert only(tmp_path).stamp != before.stamp


def test_a_source_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FootpathError, match=r"gone is not there"):
        find_files(str(tmp_path / "gone"), "*")
    with pytest.raises(FootpathError, match="cannot be listed"):
        find_files("nosuchprotocol://bucket", "*")


def test_a_file_that_may_not_be_read_is_told(tmp_path):
    (tmp_path / "a").write_text("x")
    file = only(tmp_path)
    (tmp_path / "a").unlink()
    with pytest.raises(FootpathError, match=r"a cannot be read: No such file"):
        list(read_blocks(file))


def test_a_url_is_read_like_a_folder():
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/events/2026-01-01/00.gz", gzip.compress(b"first"))
    memory.pipe("/bucket/events/2026-01-02/00.gz", gzip.compress(b"second"))
    found = find_files("memory://bucket/", "events/*/00.gz")
    assert [file.path for file in found] == ["events/2026-01-01/00.gz", "events/2026-01-02/00.gz"]
    assert [b"".join(read_blocks(file)) for file in found] == [b"first", b"second"]
    (whole,) = find_files("", "memory://bucket/events/2026-01-0[1]/00.gz")
    assert b"".join(read_blocks(whole)) == b"first"
    memory.rm("/bucket", recursive=True)


def test_a_remote_file_whose_size_nobody_tells_is_streamed():
    fsspec.filesystem("memory").pipe("/told/a", b"rows")
    told, untold = (SourceFile("a", "memory://told/a", size, "") for size in (4, 0))
    assert Prefetch([told]).take(told) == b"rows"
    assert Prefetch([untold]).take(untold) is None
