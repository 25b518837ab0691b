"""A fingerprint follows what the rows say, and nothing else."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_rows
from tests.models.conftest import planted_labels, write_labels


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
