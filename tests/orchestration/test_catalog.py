"""What the catalogue shows of an asset: columns, their origin, code, pages."""

import dagster as dg
import pytest

from contracts.lake.layout import Lake
from features.behavior.tables import FEATURE_TABLES
from orchestration import catalog
from orchestration.assets.behavior import behavior_assets
from orchestration.assets.ingestion import ingestion_assets
from orchestration.assets.learning import learning_assets
from orchestration.assets.serving import serving_assets
from orchestration.catalog import page, with_code_references
from tests.builders.datasets import shop

SHOP = shop()
TABLES = {
    spec.key.path[-1]: spec
    for assets in (ingestion_assets, behavior_assets, learning_assets, serving_assets)
    for asset in assets(SHOP)
    for spec in asset.specs
    if "dagster/column_schema" in spec.metadata
}


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_column_of_every_table_says_what_it_means(name):
    columns = TABLES[name].metadata["dagster/column_schema"].columns
    assert [column.name for column in columns if not column.description] == []


def test_origins_of_columns_are_columns_of_the_tables_that_the_asset_depends_on():
    for name in ("sessions", *FEATURE_TABLES):
        spec = TABLES[name]
        lineage = spec.metadata["dagster/column_lineage"].deps_by_column
        own = {column.name for column in spec.metadata["dagster/column_schema"].columns}
        assert lineage.keys() <= own
        for dep in (dep for deps in lineage.values() for dep in deps):
            assert dep.asset_key in {dep.asset_key for dep in spec.deps}
            source = TABLES[dep.asset_key.path[-1]].metadata["dagster/column_schema"]
            assert dep.column_name in {column.name for column in source.columns}


def test_a_page_of_the_lake_is_a_link_where_it_is_served(lake: Lake, monkeypatch):
    path = lake.table("data_docs") / "index.html"
    assert page(path) == dg.MetadataValue.path(str(path))
    monkeypatch.setenv("FOOTPATH_DOCS_URL", "https://docs.example.org/lake/")
    link = dg.MetadataValue.url("https://docs.example.org/lake/shop/data_docs/index.html")
    assert page(path) == link
    assert page(str(path)) == link
    assert page("/elsewhere/index.html") == dg.MetadataValue.path("/elsewhere/index.html")


@pytest.mark.parametrize(
    ("remote", "begins"),
    [
        ("", None),
        ("/srv/git/footpath", None),
        ("git@github.com:owner/footpath.git", "https://github.com/owner/footpath/tree/abc/"),
        (
            "https://me:secret@gitlab.com/owner/footpath",
            "https://gitlab.com/owner/footpath/-/tree/abc/",
        ),
    ],
)
def test_assets_link_to_their_code_here_or_where_it_was_cloned_from(monkeypatch, remote, begins):
    monkeypatch.setattr(catalog, "_git", lambda *asked: remote if "remote" in asked else "abc")
    (asset, *_) = with_code_references(behavior_assets(SHOP))
    (reference,) = asset.metadata_by_key[asset.key]["dagster/code_references"].code_references
    if begins is None:
        assert reference.file_path.endswith("orchestration/assets/behavior.py")
    else:
        assert reference.url.startswith(begins + "orchestration/assets/behavior.py")
        assert "secret" not in reference.url
