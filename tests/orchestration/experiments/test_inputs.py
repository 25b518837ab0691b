"""Inputs of experiments: each seed has its own split of the users."""

from pathlib import Path

import pyarrow.parquet as pq

from contracts.lake.layout import Lake
from orchestration.experiments.inputs import labels_of_seed
from tests.models.conftest import planted_labels, write_labels


def test_each_seed_deals_the_users_anew_and_keeps_what_belongs_to_one_together(tmp_path):
    lake = Lake(tmp_path / "lake")
    labels = write_labels(tmp_path / "2026-01-31.parquet", planted_labels(100))
    assert labels_of_seed(lake, labels, None, 0) == labels
    splits = []
    for seed in (1, 2):
        table = pq.read_table(labels_of_seed(lake, labels, None, seed))
        dealt = {(r["user_id"], r["split"]) for r in table.to_pylist()}
        assert len(dealt) == 100  # both tasks of a user lie in one split
        splits.append(dealt)
        original = pq.read_table(labels)
        assert table.drop_columns("split").equals(original.drop_columns("split"))
        assert 60 < sum(split == "train" for _, split in dealt) < 95
    assert splits[0] != splits[1]


def test_labels_that_follow_from_the_split_are_built_for_each_seed_and_kept(tmp_path):
    lake, built = Lake(tmp_path / "lake"), []
    labels = write_labels(tmp_path / "2026-01-31.parquet", planted_labels(100))

    def build(seed: int, path: Path) -> None:
        built.append(seed)
        rows = [row | {"value": float(seed)} for row in planted_labels(100)]
        write_labels(path, rows)

    path = labels_of_seed(lake, labels, build, 1)
    assert path != labels_of_seed(lake, labels, None, 1)
    assert set(pq.read_table(path)["value"].to_pylist()) == {1.0}
    assert labels_of_seed(lake, labels, build, 1) == path
    assert built == [1]
    # Labels that were built anew are newer than what follows from them.
    write_labels(labels, planted_labels(100))
    labels_of_seed(lake, labels, build, 1)
    assert built == [1, 1]
