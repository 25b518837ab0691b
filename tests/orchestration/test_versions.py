"""A configuration on the same data is one version; anything else is the next."""

import json

import pyarrow as pa
import pytest

from contracts.dataset import load_dataset
from contracts.lake import Lake
from contracts.publishing import publish_table
from contracts.tables import METRICS
from orchestration.promotion import leading_version
from orchestration.versions import all_versions, allocate, latest_finished


def finish(lake: Lake, version: str) -> None:
    folder = lake.root / "models" / version
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"version": version}))


def test_the_same_configuration_is_the_same_version_and_another_the_next(lake_home):
    lake = Lake.of("shop")
    first = allocate(lake, "ptum_bert4rec", "2026-02-01", {"dim": 64, "seed": 0})
    again = allocate(lake, "ptum_bert4rec", "2026-02-01", {"seed": 0, "dim": 64})
    other = allocate(lake, "ptum_bert4rec", "2026-02-01", {"dim": 32, "seed": 0})
    assert [first.version, again.version, other.version] == [
        "ptum_bert4rec_v1",
        "ptum_bert4rec_v1",
        "ptum_bert4rec_v2",
    ]
    assert [v.version for v in all_versions(lake)] == ["ptum_bert4rec_v1", "ptum_bert4rec_v2"]


def test_an_unfinished_version_is_not_used(lake_home):
    lake = Lake.of("shop")
    allocate(lake, "ptum_bert4rec", "2026-02-01", {"dim": 64})
    assert latest_finished(lake, "ptum_bert4rec") is None
    finish(lake, "ptum_bert4rec_v1")
    allocate(lake, "ptum_bert4rec", "2026-02-01", {"dim": 32})
    assert latest_finished(lake, "ptum_bert4rec").version == "ptum_bert4rec_v1"


@pytest.mark.parametrize(("auc", "leader"), [(0.9, "coles_bag_v1"), (0.5, "ptum_bert4rec_v1")])
def test_the_version_that_leads_the_frozen_probe_is_promoted(lake_home, auc, leader):
    lake = Lake.of("shop")
    for recipe, value in [("ptum_bert4rec", 0.7), ("coles_bag", auc), ("none_bag", 0.99)]:
        version = allocate(lake, recipe, "2026-02-01", {"recipe": recipe}).version
        finish(lake, version)
        method, encoder = recipe.split("_")
        row = {
            "method": method,
            "encoder": encoder,
            "protocol": "frozen",
            "inputs": "embedding",
            "task": "gender",
            "label_share": 1.0,
            "seed": 0,
            "metric": "auc",
            "value": value,
            "train_users": 8,
            "test_users": 1,
            "seconds": 0.0,
            "model_version": version,
        }
        table = pa.Table.from_pylist([row], METRICS)
        publish_table(lake, table, lake.single(f"metrics/{version}"))
        path = lake.root / "user_embeddings" / version / "2026-02-01.parquet"
        publish_table(lake, pa.table({"user_id": ["u1"]}), path)
    assert leading_version(load_dataset("shop"), lake) == leader
