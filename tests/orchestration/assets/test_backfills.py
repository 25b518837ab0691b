"""A backfill builds the partitions that were asked for, and no others."""

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
from orchestration.partitions import add_days, as_of_days, embedded_days
from orchestration.progress import Progress

SHOP = load_dataset("shop")
# All that have the days of the data set as partitions; each but the first depends on events.
DAILY = ("events", "sessions", "user_behavior_features")
OTHERS = ("user_session_features", "item_behavior_features")
# All that are made as of some days only.
AS_OF = ("labels", "training_sequences", "user_embeddings")
MONTH = [f"2026-01-{day:02}" for day in range(2, 32)]
VERSIONS = ["byb_bag_v1", "coles_bag_v1"]
CHOICES = [
    *itertools.chain.from_iterable(itertools.combinations(DAILY, count) for count in range(1, 4)),
    ("landing", *DAILY, *OTHERS),
]


@pytest.fixture(scope="module")
def graph() -> BaseAssetGraph:
    return dg.Definitions(
        assets=[
            *ingestion_assets(SHOP),
            *behavior_assets(SHOP),
            *learning_assets(SHOP),
            *serving_assets(SHOP),
        ],
        resources={"progress": Progress(), "pipes": dg.PipesSubprocessClient()},
    ).resolve_asset_graph()


@pytest.mark.parametrize("names", CHOICES, ids="+".join)
def test_thirty_days_of_any_daily_assets_are_thirty_days_of_each(graph, names):
    asked = {dg.AssetKey(["shop", name]): set(MONTH) for name in names}
    assert targets(graph, list(asked), MONTH) == asked


@pytest.mark.parametrize("names", [("events",), DAILY], ids="+".join)
def test_a_backfill_of_events_does_not_widen_to_what_is_made_as_of_other_days(graph, names):
    asked = {dg.AssetKey(["shop", name]): set(MONTH) for name in names}
    selection = [*asked, *(dg.AssetKey(["shop", name]) for name in AS_OF)]
    assert targets(graph, selection, MONTH) == asked


@pytest.mark.parametrize("names", [AS_OF[:1], AS_OF[:2]], ids="+".join)
def test_as_of_days_are_built_as_they_are_chosen(graph, names):
    asked = {dg.AssetKey(["shop", name]): {MONTH[3]} for name in names}
    assert targets(graph, list(asked), [MONTH[3]]) == asked


def test_embeddings_are_built_of_the_days_and_versions_that_are_chosen(graph):
    cells = {f"{day}|{version}" for day in MONTH[:3] for version in VERSIONS}
    asked = {dg.AssetKey(["shop", "user_embeddings"]): cells}
    assert targets(graph, list(asked), sorted(cells)) == asked


def targets(
    graph: BaseAssetGraph, selection: list[dg.AssetKey], partitions: list[str]
) -> dict[dg.AssetKey, set[str]]:
    """The partitions that a backfill builds of each asset."""
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("shop_model_versions", VERSIONS)
        for definition in (as_of_days(SHOP), embedded_days(SHOP)):
            add_days(instance, definition, MONTH)
        backfill = AssetBackfillData.from_asset_partitions(
            asset_graph=graph,
            partition_names=partitions,
            asset_selection=selection,
            dynamic_partitions_store=instance,
            backfill_start_timestamp=1798761600,  # the first of 2027
            all_partitions=False,
        )
        subsets = backfill.target_subset.partitions_subsets_by_asset_key
        found = {key: set(subset.get_partition_keys()) for key, subset in subsets.items()}
        return {key: keys for key, keys in found.items() if keys}
