"""The code location as a whole."""

import dagster as dg

import contracts.config.dataset
from contracts.config.dataset import DATASETS
from orchestration.definitions import configured
from orchestration.progress import Progress


def test_a_data_set_that_is_wrong_is_left_out_and_says_why(tmp_path, monkeypatch, capsys):
    shop = (DATASETS / "shop.yaml").read_text()
    (tmp_path / "shop.yaml").write_text(shop)
    wrong = shop.replace("name: shop", "name: our-shop").replace("  epochs:", "  epoch:")
    assert wrong.count("epoch:") == 1
    (tmp_path / "our-shop.yaml").write_text(wrong)
    monkeypatch.setattr(contracts.config.dataset, "DATASETS", tmp_path)
    resources = {"pipes": dg.PipesSubprocessClient(), "progress": Progress()}
    parts = [*configured(), dg.Definitions(resources=resources)]
    found = dg.Definitions.merge(*parts).resolve_asset_graph()
    groups = {node.group_name for node in found.asset_nodes}
    assert {"shop_ingestion", "shop_learning", "our_shop_left_out"} <= groups
    (left_out,) = [node for node in found.asset_nodes if node.group_name == "our_shop_left_out"]
    assert "learning.epoch: " in left_out.description
    assert "data set 'our-shop' is left out: " in capsys.readouterr().err
