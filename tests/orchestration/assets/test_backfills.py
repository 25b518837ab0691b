"""A backfill of daily assets builds the days that were asked for, and no others."""

import itertools

import dagster as dg
import pytest
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.execution.asset_backfill import AssetBackfillData

from contracts.config.dataset import load_dataset
from orchestration.assets.behavior import behavior_assets
from orchestration.assets.ingestion import ingestion_assets
from orchestration.assets.learning import learning_assets
from orchestration.assets.serving import serving_assets
from orchestration.progress import Progress

# All that have the days of the data set as partitions; each but the first depends on events.
DAILY = ("events", "sessions", "user_behavior_features", "labels", "training_sequences")
MONTH = [f"2026-01-{day:02}" for day in range(2, 32)]
VERSIONS = ["byb_bag_v1", "coles_bag_v1"]
CHOICES = [
    *itertools.chain.from_iterable(itertools.combinations(DAILY, count) for count in range(1, 6)),
    ("landing", *DAILY),
]


@pytest.fixture(scope="module")
def graph() -> BaseAssetGraph:
    shop = load_dataset("shop")
    return dg.Definitions(
        assets=[
            *ingestion_assets(shop),
            *behavior_assets(shop),
            *learning_assets(shop),
            *serving_assets(shop),
        ],
        resources={"progress": Progress(), "pipes": dg.PipesSubprocessClient()},
    ).resolve_asset_graph()


@pytest.mark.parametrize("names", CHOICES, ids="+".join)
def test_thirty_days_of_any_daily_assets_are_thirty_days_of_each(graph, names):
    asked = {dg.AssetKey(["shop", name]): set(MONTH) for name in names}
    assert targets(graph, list(asked)) == asked


@pytest.mark.parametrize("names", [("events",), DAILY[:3]], ids="+".join)
def test_embeddings_that_follow_events_are_of_the_same_days(graph, names):
    cells = {f"{day}|{version}" for day in MONTH for version in VERSIONS}
    asked = {dg.AssetKey(["shop", name]): set(MONTH) for name in names}
    asked[dg.AssetKey(["shop", "user_embeddings"])] = cells
    assert targets(graph, list(asked)) == asked


def targets(graph: BaseAssetGraph, selection: list[dg.AssetKey]) -> dict[dg.AssetKey, set[str]]:
    """The partitions that a backfill of the month builds of each asset."""
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("shop_model_versions", VERSIONS)
        backfill = AssetBackfillData.from_asset_partitions(
            asset_graph=graph,
            partition_names=MONTH,
            asset_selection=selection,
            dynamic_partitions_store=instance,
            backfill_start_timestamp=1798761600,  # the first of 2027
            all_partitions=False,
        )
        subsets = backfill.target_subset.partitions_subsets_by_asset_key
        return {key: set(subset.get_partition_keys()) for key, subset in subsets.items()}
