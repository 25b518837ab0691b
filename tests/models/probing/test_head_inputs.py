"""Heads that see features beside the embedding, through the programs themselves."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.baselines.measure import baselines
from models.finetune import finetune
from models.metrics.predictions import read_predictions
from models.runtime.report import Reporter
from tests.builders.jobs import baselines_job, evaluation_job, pretrain
from tests.builders.sequences import planted_labels, user_names, write_labels, write_sequences

USERS = 120
TASKS = [{"name": "secret", "kind": "classification", "metric": "auc"}]


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """Users whose label follows from a feature, and not from their items; random weights."""
    folder = tmp_path_factory.mktemp("work")
    pointer = write_sequences(folder, [8] * USERS)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, USERS)
    dealt = [row for row in planted_labels(USERS) if row["task"] == "half"]
    rows = [
        row | {"task": "secret", "value": float(label), "label": "ab"[label]}
        for row, label in zip(dealt, y, strict=True)
    ]
    write_labels(folder / "labels.parquet", rows)
    known = pa.table(
        {"user_id": user_names(USERS), "spent": np.exp(4 * y + rng.normal(size=USERS))}
    )
    pq.write_table(known, folder / "features.parquet")
    pretrain(pointer, folder / "none_bag_v1", "none_bag", max_length=10)
    return folder


def settings_of(work: Path, out: Path, **changes) -> dict:
    common = {"sequences": str(work / "sequences" / "2026-01-31.json"), "tasks": TASKS}
    common |= {"labels": str(work / "labels.parquet"), "out": str(out / "m.parquet")}
    common |= {"head_features": str(work / "features.parquet")}
    return common | {"predictions": str(out / "p.parquet")} | changes


def test_heads_find_what_only_features_know_frozen_and_trained(work, tmp_path):
    settings = settings_of(
        work,
        tmp_path,
        checkpoint=str(work / "none_bag_v1"),
        protocols=["frozen", "scratch"],
        feature_protocols=["frozen", "scratch"],
        epochs=2,
        seeds=[3],
        vectors=str(tmp_path / "vectors"),
    )
    finetune(evaluation_job(settings), Reporter())
    rows = [r for r in pq.read_table(tmp_path / "m.parquet").to_pylist() if r["metric"] == "auc"]
    auc = {(row["protocol"], row["inputs"]): row["value"] for row in rows}
    assert {row["seed"] for row in rows} == {3}
    for protocol in ("frozen", "scratch"):
        assert auc[protocol, "embedding+features"] > 0.95
        assert auc[protocol, "embedding"] < 0.85
    assert auc["frozen", "profile"] > 0.95
    runs = read_predictions([tmp_path / "p.parquet"])
    assert len(runs) == 5
    assert all(set(found) == {"valid", "test"} for found in runs.values())
    vectors = pq.read_table(tmp_path / "vectors" / "secret.parquet")
    assert set(vectors["label"].to_pylist()) == {"a", "b"}
    assert len(vectors["vector"][0]) == 16


def test_a_profile_sees_no_label_of_a_test_user(work, tmp_path):
    settings = settings_of(work, tmp_path, checkpoint=str(work / "none_bag_v1"), trees=20)
    settings |= {"protocols": ["frozen"]}

    def profiles() -> list[np.ndarray]:
        finetune(evaluation_job(settings), Reporter())
        runs = read_predictions([tmp_path / "p.parquet"])
        return [found["test"].scores_nC for run, found in runs.items() if "profile" in run]

    given = profiles()
    rows = pq.read_table(work / "labels.parquet").to_pylist()
    names = {"a": ("b", 1.0), "b": ("a", 0.0)}
    for row in rows:
        if row["split"] == "test":
            row["label"], row["value"] = names[row["label"]]
    write_labels(tmp_path / "turned.parquet", rows)
    settings["labels"] = str(tmp_path / "turned.parquet")
    np.testing.assert_array_equal(profiles(), given)
    assert len(given) == 1


def test_models_on_features_alone_are_baselines(work, tmp_path):
    settings = settings_of(work, tmp_path, lsa_dim=4)
    result = baselines(baselines_job(settings), Reporter())
    assert result["secret/features_lr_auc"] > 0.95
    assert result["secret/tfidf_lr_auc"] < 0.85
    found = {
        row["method"]: row["inputs"] for row in pq.read_table(tmp_path / "m.parquet").to_pylist()
    }
    assert found == {
        "majority": "items", "tfidf_lr": "items", "lsa_lr": "items", "features_lr": "features",
        "features_gbm": "features", "features_mean": "features",
    }  # fmt: skip
    assert result["secret/features_gbm_auc"] > 0.9
    assert len(read_predictions([tmp_path / "p.parquet"])) == 6
