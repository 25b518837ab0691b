"""The code location as a whole."""

import datetime as dt
import subprocess
import sys
from pathlib import Path

from contracts.config.dataset import DATASETS, dataset_names
from contracts.config.sources import enable, link_source
from orchestration.definitions import code_location
from orchestration.partitions import days
from tests.builders.datasets import dataset_like
from tests.conftest import REPOSITORY
from tests.orchestration.conftest import clean_environment

LOADED = """
from orchestration.definitions import defs
print(sorted({node.key.path[0] for node in defs.resolve_asset_graph().asset_nodes}))
"""


def loaded(home: Path) -> tuple[str, str]:
    """What a process of Dagster loads in a home folder, and what it prints."""
    process = subprocess.run(
        [sys.executable, "-c", LOADED],
        cwd=REPOSITORY,
        env=clean_environment(home),
        capture_output=True,
        text=True,
        check=True,
    )
    return process.stdout.strip(), process.stderr


def test_what_is_enabled_is_loaded_and_nothing_is_printed(lake_home: Path):
    assert loaded(lake_home) == ("['no_data_set_is_enabled']", "")
    link_source("shop", "/files/of/the/shop")
    enable("ml-100k")
    enable("ml-1m", enabled=False)
    assert loaded(lake_home) == ("['ml_100k', 'shop']", "")
    enable("shop", enabled=False)
    assert loaded(lake_home) == ("['ml_100k']", "")


def test_the_asset_of_an_empty_code_location_says_what_to_do():
    (node,) = code_location([]).resolve_asset_graph().asset_nodes
    assert "footpath datasets link" in (node.description or "")
    assert "- `ml-100k`" in (node.description or "")


def test_days_end_with_a_source_that_has_ended(lake_home):
    shop = dataset_like("shop")
    link_source("shop", "/files", dt.date(2026, 1, 28))
    assert days(shop).get_last_partition_key() == "2026-01-28"
    link_source("shop", "/files")
    assert str(days(shop).get_last_partition_key()) > "2026-01-28"


def test_a_data_set_that_is_wrong_is_left_out_and_says_why(tmp_path, monkeypatch, capsys):
    shop = (DATASETS / "shop.yaml").read_text()
    (tmp_path / "shop.yaml").write_text(shop)
    wrong = shop.replace("name: shop", "name: our-shop").replace("  epochs:", "  epoch:")
    assert wrong.count("epoch:") == 1
    (tmp_path / "our-shop.yaml").write_text(wrong)
    monkeypatch.setenv("FOOTPATH_DATASETS", str(tmp_path))
    found = code_location(dataset_names()).resolve_asset_graph()
    groups = {node.group_name for node in found.asset_nodes}
    assert {"shop_ingestion", "shop_learning", "our_shop_left_out"} <= groups
    (left_out,) = [node for node in found.asset_nodes if node.group_name == "our_shop_left_out"]
    assert "learning.epoch: " in left_out.description
    assert "data set 'our-shop' is left out: " in capsys.readouterr().err
