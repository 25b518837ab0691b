"""The best fine-tuned model of a task is a version whose vectors and scores go to the store."""

from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore

from contracts.config.dataset import Dataset
from contracts.config.sources import link_source
from contracts.lake.layout import Lake
from contracts.lake.versions import latest_finished
from contracts.recipes.checkpoint import load_facts
from features.store import apply_registry, opened_repository
from features.store import materialize as bring_online
from orchestration.assets.evaluation import evaluation_assets
from orchestration.assets.learning import learning_assets
from orchestration.assets.serving import serving_assets
from orchestration.progress import Progress
from tests.s3 import chain

LEARNING = chain.SHOP.learning.model_copy(update={"label_shares": [1.0], "seeds": 1})
SHOP: Dataset = chain.SHOP.model_copy(update={"learning": LEARNING})


@pytest.fixture
def lake(lake: Lake, shop_folder: Path) -> Lake:
    """The daily tables, labels and sequences of 50 users and five days."""
    link_source("shop", str(shop_folder))
    chain.build_tables(lake)
    return lake


def materialize(
    instance: dg.DagsterInstance, name: str, partition: str, **config: Any
) -> dg.ExecuteInProcessResult:
    assets = [*learning_assets(SHOP), *evaluation_assets(SHOP), *serving_assets(SHOP)]
    return dg.materialize(
        assets,
        selection=[dg.AssetKey(["shop", name])],
        instance=instance,
        partition_key=partition,
        resources={"pipes": dg.PipesSubprocessClient(), "progress": Progress()},
        run_config={"ops": {f"shop__{name}": {"config": config}}} if config else {},
    )


def test_a_fine_tuned_model_embeds_and_scores_the_users_of_a_day(lake):
    with dg.DagsterInstance.ephemeral() as instance:
        materialize(instance, "pretrained_encoder", "coles_bag", epochs=1)
        materialize(instance, "finetuned_age", "coles_bag")
        known = instance.get_dynamic_partitions("shop_model_versions")
        assert known == ["coles_bag_v1", "coles_bag_v1_age"]
        for version in known:
            key = dg.MultiPartitionKey({"day": str(chain.LAST), "model_version": version})
            materialize(instance, "user_embeddings", str(key))
    tuned = latest_finished(lake, "coles_bag", "age")
    facts = load_facts(tuned.folder(lake))
    vectors, scored = (
        pq.read_table(lake.day(f"user_embeddings/{version}", chain.LAST)) for version in known
    )
    assert scored.num_rows == vectors.num_rows > 20
    assert set(scored["model_version"].to_pylist()) == {"coles_bag_v1_age"}
    assert "scores" not in vectors.column_names
    rows = scored["scores"].to_pylist()
    assert {len(row) for row in rows} == {len(facts.task.classes)}
    assert all(abs(sum(row) - 1) < 1e-4 for row in rows)
    assert scored["embedding"].to_pylist() != vectors["embedding"].to_pylist()  # its own encoder
    views = apply_registry(SHOP, lake).views
    assert {f"user_embeddings_{version}" for version in known} <= set(views)
    bring_online(SHOP, lake)
    store = FeatureStore(repo_path=str(opened_repository(lake)))
    found = store.get_online_features(
        features=["user_embeddings_coles_bag_v1_age:scores_coles_bag_v1_age"],
        entity_rows=[{"user_id": user} for user in scored["user_id"].to_pylist()[:5]],
    ).to_dict()
    assert found["scores_coles_bag_v1_age"] == rows[:5]
