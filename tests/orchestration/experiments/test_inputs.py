"""Inputs of experiments: each seed has its own split of the users."""

from pathlib import Path

import pyarrow.parquet as pq

from contracts.lake.layout import Lake
from features.learning.label_rows import Split
from orchestration.experiments.inputs import labels_of_split
from tests.models.conftest import planted_labels, write_labels


def test_each_seed_deals_the_users_anew_and_keeps_what_belongs_to_one_together(tmp_path):
    lake = Lake(tmp_path / "lake")
    labels = write_labels(tmp_path / "2026-01-31.parquet", planted_labels(100))
    assert labels_of_split(lake, labels, None, Split(0)) == labels
    splits = []
    for seed in (1, 2):
        table = pq.read_table(labels_of_split(lake, labels, None, Split(seed)))
        dealt = {(r["user_id"], r["split"]) for r in table.to_pylist()}
        assert len(dealt) == 100  # both tasks of a user lie in one split
        splits.append(dealt)
        original = pq.read_table(labels)
        assert table.drop_columns("split").equals(original.drop_columns("split"))
        assert 60 < sum(split == "train" for _, split in dealt) < 95
    assert splits[0] != splits[1]


def test_folds_are_disjoint_hold_every_user_once_and_do_not_ask_who_else_is_there(tmp_path):
    lake = Lake(tmp_path / "lake")
    labels = write_labels(tmp_path / "2026-01-31.parquet", planted_labels(300))

    def dealt(split: Split, path: Path = labels) -> dict[str, str]:
        rows = pq.read_table(labels_of_split(lake, path, None, split)).to_pylist()
        return {row["user_id"]: row["split"] for row in rows}

    for again in (0, 1):
        folds = [dealt(Split(seed, 5)) for seed in range(5 * again, 5 * again + 5)]
        tested = [user for fold in folds for user in fold if fold[user] == "test"]
        assert sorted(tested) == sorted(folds[0])  # 300 users, each once
        for fold in folds:
            counts = [list(fold.values()).count(split) for split in ("train", "valid", "test")]
            assert sum(counts) == 300
            assert 180 < counts[0] < 245  # 71%
            assert 10 < counts[1] < 45  # 9%
            assert 40 < counts[2] < 85  # 20%
        judging = [{user for user in fold if fold[user] == "valid"} for fold in folds]
        assert not judging[0] & judging[1]
    assert dealt(Split(0, 5)) != dealt(Split(5, 5))
    assert dealt(Split(0, 5)) != dealt(Split(0))
    # Half of the users, in another order, are dealt alike.
    half = write_labels(tmp_path / "half.parquet", planted_labels(300)[::-2])
    whole = dealt(Split(3, 5))
    assert dealt(Split(3, 5), half).items() <= whole.items()


def test_labels_that_follow_from_the_split_are_built_for_each_seed_and_kept(tmp_path):
    lake, built = Lake(tmp_path / "lake"), []
    labels = write_labels(tmp_path / "2026-01-31.parquet", planted_labels(100))

    def build(split: Split, path: Path) -> None:
        built.append(split.seed)
        rows = [row | {"value": float(split.seed)} for row in planted_labels(100)]
        write_labels(path, rows)

    path = labels_of_split(lake, labels, build, Split(1))
    assert path != labels_of_split(lake, labels, None, Split(1))
    assert set(pq.read_table(path)["value"].to_pylist()) == {1.0}
    assert labels_of_split(lake, labels, build, Split(1)) == path
    assert built == [1]
    # Labels that were built anew are newer than what follows from them.
    write_labels(labels, planted_labels(100))
    labels_of_split(lake, labels, build, Split(1))
    assert built == [1, 1]
