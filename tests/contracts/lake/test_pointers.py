"""A pointer leads to the folder beside it, with the files that it was written for."""

import json
import os
from pathlib import Path

import pytest

from contracts.base.errors import FootpathError
from contracts.lake.pointers import check_files, file_hashes, pointed_folder


@pytest.fixture
def pointer(tmp_path: Path) -> Path:
    """A pointer at a folder of two files."""
    folder = tmp_path / "lake" / "2026-01-01-0123"
    folder.mkdir(parents=True)
    (folder / "a.npy").write_text("a")
    (folder / "b.npy").write_text("b")
    path = tmp_path / "lake" / "2026-01-01.json"
    path.write_text(json.dumps({"folder": folder.name, "files": file_hashes(folder)}))
    return path


def check(pointer: Path, *names: str) -> None:
    check_files(pointer, json.loads(pointer.read_text()), names, "build it again")


@pytest.mark.parametrize(
    "folder",
    ["", ".", "..", "../else", "/etc", "a/b", "s3://bucket/a", "a\\b", "a\0b", None, 7, ["a"]],
)
def test_a_pointer_cannot_leave_its_folder(pointer: Path, folder: object):
    pointer.write_text(json.dumps({"folder": folder}))
    with pytest.raises(FootpathError, match=r"field 'folder' is .* a folder beside it"):
        pointed_folder(pointer)


def test_files_that_are_as_they_were_written_are_taken(pointer: Path):
    check(pointer, "a.npy", "b.npy")
    assert pointed_folder(pointer).name == "2026-01-01-0123"


def test_a_changed_or_missing_file_is_refused_by_its_name(pointer: Path):
    check(pointer, "a.npy", "b.npy")
    file = pointed_folder(pointer) / "b.npy"
    before = file.stat().st_mtime_ns
    file.write_text("c")
    with pytest.raises(FootpathError, match=r"b\.npy is not what 2026-01-01\.json was written for"):
        check(pointer, "a.npy", "b.npy")
    assert file.stat().st_mtime_ns != before
    file.unlink()
    with pytest.raises(FootpathError, match=r"b\.npy is not there: build it again"):
        check(pointer, "a.npy", "b.npy")


def test_a_file_that_another_has_replaced_is_hashed_again(pointer: Path):
    check(pointer, "a.npy")
    file = pointed_folder(pointer) / "a.npy"
    status = file.stat()
    other = file.with_name("other")
    other.write_text("x")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))  # of the same size and time
    other.replace(file)
    with pytest.raises(FootpathError, match=r"a\.npy is not what"):
        check(pointer, "a.npy")


def test_a_file_that_the_pointer_does_not_name_is_refused(pointer: Path):
    (pointed_folder(pointer) / "c.npy").write_text("c")
    with pytest.raises(FootpathError, match=r"c\.npy is not what"):
        check(pointer, "c.npy")
    pointer.write_text(json.dumps({"folder": pointed_folder(pointer).name, "files": "none"}))
    with pytest.raises(FootpathError, match=r"a\.npy is not what"):
        check(pointer, "a.npy")
