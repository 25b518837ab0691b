"""A comparison is seen in Dagster: a partition, in parts or whole, with its table and pictures."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from contracts.base.errors import FootpathError
from contracts.config.comparison import Asked, Comparison, comparison_of
from contracts.config.sources import link_source
from contracts.lake.layout import Lake
from contracts.lake.versions import latest_finished
from features.shop import generate_shop
from orchestration.assets.evaluation import evaluation_assets
from orchestration.assets.learning import learning_assets
from orchestration.experiments.store import (
    parse_part,
    part_keys,
    planned,
    read_comparison,
    write_comparison,
)
from orchestration.partitions import comparisons
from orchestration.progress import Progress
from tests.s3 import chain

LEARNING = chain.SHOP.learning.model_copy(
    update={
        "recipes": ["coles_bag"],
        "settings": {"coles_bag": {"fields": ["item", "action"]}},
        "label_shares": [0.5, 1.0],
    }
)
SHOP = chain.SHOP.model_copy(update={"learning": LEARNING})


def wanted() -> Comparison:
    asked = Asked(protocols=("frozen", "scratch"), settings=("epochs=1", "finetuning.epochs=1"))
    return comparison_of(SHOP, asked)


@pytest.fixture
def lake(lake_home: Path, tmp_path: Path) -> Lake:
    """The daily tables of 50 users and five days."""
    generate_shop(tmp_path / "shop", users=50, days=5)
    link_source("shop", str(tmp_path / "shop"))
    lake = Lake.of("shop")
    chain.build_tables(lake)
    return lake


def materialize(
    instance: dg.DagsterInstance, name: str, partition: str, **config: Any
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [*learning_assets(SHOP), *evaluation_assets(SHOP)],
        selection=[dg.AssetKey(["shop", name])],
        instance=instance,
        partition_key=partition,
        resources={"pipes": dg.PipesSubprocessClient(), "progress": Progress()},
        run_config={"ops": {f"shop__{name}": {"config": config}}} if config else {},
    )


@pytest.mark.long
def test_parts_of_a_comparison_measure_what_the_whole_shows_and_the_assets_have(lake):
    write_comparison(lake, "mine", wanted())
    assert read_comparison(lake, "mine") == wanted()
    keys = part_keys("mine", 2)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(str(comparisons(SHOP).name), [*keys, "mine"])
        for key in keys:
            materialize(instance, "comparison", key, workers=2)
        plan = planned(SHOP, lake, wanted(), lambda _: None)
        assert plan.jobs == []  # the parts leave nothing out
        ran = {path: path.stat().st_mtime_ns for path in (lake.work / "runs").iterdir()}
        materialize(instance, "comparison", "mine")
        asset = dg.AssetKey(["shop", "comparison"])
        shown = instance.fetch_materializations(asset, limit=1).records[0].asset_materialization
        # What it has trained is a version of the YAML's recipe without another training.
        materialize(instance, "pretrained_encoder", "coles_bag", epochs=1)
    assert ran == {path: path.stat().st_mtime_ns for path in (lake.work / "runs").iterdir()}
    trials = {each.trial for each in plan.measured if each.recipe}
    assert latest_finished(lake, "coles_bag").trial in trials
    assert shown.partition == "mine"
    metadata = shown.metadata
    assert metadata["cells not measured"].value == 0
    for name in ("coles", "majority", "tfidf"):
        assert name in metadata["table"].value
    assert {"labels", "map", "health"} <= metadata.keys()
    assert "data:image/png;base64," in metadata["labels"].value
    assert Path(str(metadata["page"].value)).is_file()
    assert (lake.root / "comparisons" / "mine" / "mine.md").is_file()


def test_a_partition_names_a_comparison_and_its_part():
    assert part_keys("mine", 1) == []
    assert [parse_part(key) for key in part_keys("mine", 3)] == [("mine", n, 3) for n in range(3)]
    assert parse_part("mine") == ("mine", 0, 1)


def test_a_comparison_that_nobody_has_planned_or_planned_otherwise_is_told(lake_home):
    lake = Lake.of("shop")
    with pytest.raises(FootpathError, match=r"plan.json is not there: plan it by `footpath compa"):
        read_comparison(lake, "mine")
    path = lake.root / "comparisons" / "mine" / "plan.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"title": "of another time"}')
    with pytest.raises(FootpathError, match=r"plan.json is not of this Footpath: plan it again"):
        read_comparison(lake, "mine")
