"""The example in the docs reads its training set from S3, with nothing of ours at hand."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from contracts.lake.layout import Lake
from features.store import materialize, opened_repository, promote, repository
from features.store.repository import open_store
from tests.builders.datasets import shop
from tests.builders.store import (
    DAY,
    behavior_rows,
    midnight,
    publish_behavior,
    publish_embeddings,
    publish_model,
)
from tests.features.store.test_example import EXAMPLES
from tests.s3.conftest import Bucket

VERSION = "ptum_bert4rec_v1"


def test_the_example_and_our_offline_store_read_from_s3(
    bucket: Bucket, lake_home: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("FOOTPATH_LAKE", f"{bucket.url}/lake")
    dataset, lake = shop(), Lake.of("shop")
    users = [f"u{k}" for k in range(5)]
    publish_behavior(lake, DAY, behavior_rows(dataset, DAY, users, 10))
    publish_model(lake, VERSION)
    publish_embeddings(lake, dataset, VERSION, DAY, users, np.eye(5, 4, dtype=np.float32))
    promote(dataset, lake, VERSION)
    materialize(dataset, lake)
    for file in ("stock/feature_store.yaml", "registry.db", "online.db"):
        source = opened_repository(lake) if file == "online.db" else repository(lake)
        target = tmp_path / "team" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((source / file).read_bytes())
    tmp_path / "team" / "stock"
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("FOOTPATH", "PYTHONPATH"))
    }
    result = subprocess.run(
        [
            sys.executable,
            "-I",
            str(EXAMPLES / "retrieve.py"),
            "--repo",
            str(tmp_path / "team" / "stock"),
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "Training set of user_representation__v1: 5 rows" in result.stdout
    assert "Online read of user_representation__v1: 5 users" in result.stdout
    assert f"embedding_{VERSION}" in result.stdout

    store = open_store(lake)
    at = pd.Timestamp(midnight(dataset, DAY)) + pd.Timedelta(days=1)
    labels = pd.DataFrame({"user_id": users[::-1], "event_timestamp": at})
    service = store.get_feature_service("user_representation__v1")
    found = store.get_historical_features(labels, service, filter_by_created_timestamp=True).to_df()
    assert found["user_id"].tolist() == users[::-1]
    vectors = np.stack(found[f"embedding_{VERSION}"].tolist())
    assert np.array_equal(vectors, np.eye(5, 4, dtype=np.float32)[::-1])
    moments = store.get_historical_features(features=service, end_date=at.to_pydatetime())
    assert moments.to_df()["user_id"].tolist() == users
