"""The profile of a task is a version whose vectors and predictions go to the store."""

from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.compute as pc
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
from models.data.sequences import open_sequences
from models.experiments.cells import read_measured
from models.metrics.predictions import read_predictions
from orchestration.assets.evaluation import evaluation_assets
from orchestration.assets.learning import learning_assets
from orchestration.assets.serving import serving_assets
from orchestration.chain import Stage, StageRunner, run_stage
from orchestration.jobs import stage_jobs
from orchestration.partitions import cell, days_by_version
from orchestration.progress import Progress
from orchestration.promotion.steps import promote_due
from tests.s3 import chain

LEARNING = chain.SHOP.learning.model_copy(update={"label_shares": [1.0], "seeds": 1})
SHOP: Dataset = chain.SHOP.model_copy(update={"learning": LEARNING})


@pytest.fixture
def lake(lake: Lake, shop_folder: Path) -> Lake:
    """The daily tables, labels and sequences of 50 users and four days."""
    link_source("shop", str(shop_folder))
    chain.build_tables(lake)
    return lake


def materialize(
    instance: dg.DagsterInstance,
    name: str,
    partition: str | None,
    **config: Any,
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


def embed(instance: dg.DagsterInstance, first: str, last: str) -> None:
    """Embeds a range of days x model versions, as the chain does."""
    assets = [*learning_assets(SHOP), *evaluation_assets(SHOP), *serving_assets(SHOP)]
    definitions = dg.Definitions(
        assets=assets,
        jobs=[job for job in stage_jobs(SHOP) if job.name == "shop_embedding"],
        resources={"pipes": dg.PipesSubprocessClient(), "progress": Progress()},
    )
    runner = StageRunner(SHOP, instance, definitions.resolve_job_def)
    run_stage(runner, Stage("embedding", "", first, last))


@pytest.mark.long
@pytest.mark.timeout(600)  # nine programs that load torch
def test_a_profile_embeds_and_predicts_the_users_of_days(lake):
    name = "coles_bag_v1_age_profile"
    with dg.DagsterInstance.ephemeral() as instance:
        materialize(instance, "pretrained_encoder", "coles_bag", epochs=1)
        materialize(instance, "finetuned_age", "coles_bag")
        known = instance.get_dynamic_partitions("shop_model_versions")
        assert known == ["coles_bag_v1", name]
        embed(instance, cell(chain.LAST, name), cell(chain.LAST, name))
        first = rows_of(lake, name)
        lake.day("events", chain.DAYS[0]).unlink()  # as if all of its events were taken back
        embed(instance, cell(chain.DAYS[-3], known[0]), cell(chain.LAST, name))
        cells = {cell(day, version) for day in chain.DAYS[-3:] for version in known}
        assert len(cells) == 6
        key = dg.AssetKey(["shop", "user_embeddings"])
        assert instance.get_materialized_partitions(key) == cells
        # Nothing is left to build of the days that there are.
        partitions = days_by_version(SHOP).get_partition_keys(dynamic_partitions_store=instance)
        assert set(partitions) == cells
    assert all(lake.days(f"user_embeddings/{version}") == chain.DAYS[-3:] for version in known)
    # What is published of the test users is what the leaderboard has measured.
    published = {row["user_id"]: row["scores"] for row in first}
    measured = predictions_of_test_users(lake, "coles_bag_v1")
    assert len(measured) > 2
    for user, scores in measured.items():
        assert published[user] == pytest.approx(scores, abs=1e-5)
    # What was known stays, and what was embedded again is newer.
    rows = rows_of(lake, name)
    added = [row for row in rows if row not in first]
    assert [row for row in rows if row in first] == first
    assert len(added) > 5
    assert min(row["created"] for row in added) > max(row["written_at"] for row in first)

    head = latest_finished(lake, "coles_bag", "age")
    facts = load_facts(head.folder(lake))
    assert facts.task.reads_features
    scored = {row["user_id"]: row for row in rows}
    vectors = {row["user_id"]: row for row in rows_of(lake, known[0])}
    assert len(scored) >= len(vectors) > 20
    assert {row["model_version"] for row in scored.values()} == {name}
    assert all("scores" not in row for row in vectors.values())
    scores = [row["scores"] for row in scored.values()]
    assert {len(row) for row in scores} == {len(facts.task.classes)}
    assert all(abs(sum(row) - 1) < 1e-4 for row in scores)
    # The vector is that of the encoder.
    assert all(scored[user]["embedding"] == vectors[user]["embedding"] for user in vectors)
    promote_due(SHOP, lake, by="test")
    report = apply_registry(SHOP, lake)
    assert report.aliases["age"] == "age__v1"
    assert {f"user_embeddings_{version}" for version in known} <= set(report.views)
    bring_online(SHOP, lake)
    store = FeatureStore(repo_path=str(opened_repository(lake)))
    users = list(scored)[:5]
    service = store.get_feature_service("age__v1")
    asked = [feature.name for view in service.feature_view_projections for feature in view.features]
    online = store.get_online_features(service, [{"user_id": user} for user in users]).to_dict()
    assert list(online) == ["user_id", *asked]
    assert asked[-2:] == [f"embedding_{name}", f"scores_{name}"]
    assert online[f"scores_{name}"] == [scored[user]["scores"] for user in users]
    assert set(facts.task.profile.features) < set(asked)


def predictions_of_test_users(lake: Lake, version: str) -> dict[str, list[float]]:
    """What was measured of the test users by the profile of a version."""
    (measured,) = read_measured(lake, version)
    (frozen,) = [each for each in measured.cells if each.protocol == "frozen"]
    of_profile = pc.field("inputs") == "profile"
    ((_, parts),) = read_predictions([frozen.predictions], of_profile).items()
    ids = open_sequences(Path(measured.sequences)).user_ids()
    rows = zip(parts["test"].users_n, parts["test"].scores_nC.tolist(), strict=True)
    return {ids[user]: scores for user, scores in rows}


def rows_of(lake: Lake, version: str) -> list[dict]:
    """Rows of the last day: of each user the newest comes last."""
    return pq.read_table(lake.day(f"user_embeddings/{version}", chain.LAST)).to_pylist()
