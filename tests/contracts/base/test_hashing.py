"""A hash follows the content, and nothing else."""

import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from contracts.base.errors import FootpathError
from contracts.base.hashing import Hasher, hash_bytes, hash_files, hash_json, hash_rows
from tests.builders.sequences import planted_labels, write_labels


def test_a_fingerprint_follows_the_rows_of_the_task_and_not_the_file(tmp_path: Path):
    rows = planted_labels(40)
    labels = write_labels(tmp_path / "labels.parquet", rows)
    first = {task: hash_rows(labels, task) for task in ("", "half", "number")}
    moved = tmp_path / "moved" / "labels.parquet"
    moved.parent.mkdir()
    table = pq.read_table(labels).replace_schema_metadata({b"footpath.holdout": b"0"})
    pq.write_table(table, moved, compression="zstd", row_group_size=7)
    assert {task: hash_rows(moved, task) for task in first} == first
    write_labels(labels, [rows[0] | {"value": 1.0}, *rows[1:]])
    changed = {task: hash_rows(labels, task) for task in first}
    assert [task for task in first if changed[task] != first[task]] == ["", "half"]


def test_a_file_that_is_no_table_is_a_sentence(tmp_path: Path):
    path = tmp_path / "labels.parquet"
    with pytest.raises(FootpathError, match="cannot be read as Parquet"):
        hash_rows(path)
    path.write_text("user_id,task")
    with pytest.raises(FootpathError, match="cannot be read as Parquet"):
        hash_rows(path)


def test_a_value_is_hashed_whatever_the_order_of_its_fields():
    assert hash_json({"a": 1, "b": [2, {"c": None, "d": "ü"}]}) == hash_json(
        {"b": [2, {"d": "ü", "c": None}], "a": 1}
    )
    values = [{}, [], "", None, 0, False, "0", {"a": 1}, {"a": "1"}, [1, 2], [2, 1], [[1], 2]]
    assert len({hash_json(value) for value in values}) == len(values)


@pytest.mark.parametrize("value", [Path("a"), {"a": object()}, {1, 2}, math.nan, [math.inf]])
def test_what_json_does_not_hold_is_refused(value: object):
    with pytest.raises((TypeError, ValueError)):
        hash_json(value)


def test_bytes_are_hashed_however_they_are_cut():
    hasher = Hasher()
    for block in (b"", b"foot", memoryview(b"path")):
        hasher.update(block)
    assert hasher.hexdigest() == hash_bytes(b"footpath") == "8b0b3bffa9f68663"


def test_files_are_hashed_with_their_names_and_not_with_where_they_lie(tmp_path: Path):
    def files(folder: str, **contents: str) -> str:
        root = tmp_path / folder
        root.mkdir()
        for name, text in contents.items():
            (root / name).write_text(text)
        return hash_files(root, root.iterdir())

    first = files("one", a="x", b="y")
    assert files("two", b="y", a="x") == first
    assert len({first, files("three", a="y", b="x"), files("four", a="xy", b="")}) == 3
