"""Catalogue and users: one row a key, the later one counts, broken files are told."""

import gzip
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from contracts.errors import FootpathError
from contracts.lake import Lake
from contracts.links import link_source
from features.catalogue import build_items, build_users
from tests.features.event_log import dataset_like

SHOP = dataset_like("shop")
HEADER = "item,title,category,brand,price"


@pytest.fixture
def source(tmp_path: Path, lake_home: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    link_source("shop", str(folder))
    return folder


def write_items(source: Path, *rows: str, header: str = HEADER) -> None:
    (source / "items.csv").write_text("\n".join([header, *rows]) + "\n")


def items() -> dict[str, dict]:
    rows = pq.read_table(Lake.of("shop").single("items")).to_pylist()
    return {row["item_id"]: row | {"attributes": dict(row["attributes"])} for row in rows}


def test_an_item_has_its_title_category_and_the_attributes_that_it_has(source):
    write_items(source, 'a,"Shirt, navy",clothes,Acme,9.5', "b,Hat,,,")
    assert build_items(SHOP, Lake.of("shop")) == 2
    assert items()["a"] == {
        "item_id": "a",
        "title": "Shirt, navy",
        "category": "clothes",
        "attributes": {"brand": "Acme", "price": "9.5"},
    }
    assert items()["b"]["category"] is None
    assert items()["b"]["attributes"] == {}


def test_the_later_row_of_a_key_counts(source):
    write_items(source, "a,Old,x,,1", "b,B,x,,1", "a,New,y,,2")
    assert build_items(SHOP, Lake.of("shop")) == 2
    assert items()["a"]["title"] == "New"


def test_a_few_rows_without_a_key_are_left_out_and_many_stop_the_table(source):
    good = [f"i{n},T,c,b,1" for n in range(40)]
    write_items(source, *good, ",No key,c,b,1")
    assert build_items(SHOP, Lake.of("shop")) == 40
    write_items(source, *good[:5], ",No key,c,b,1")
    with pytest.raises(FootpathError, match=r"items.csv: 1 of 6 rows .* line 7: item_id is null"):
        build_items(SHOP, Lake.of("shop"))
    assert len(items()) == 40


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("item,title,brand,price\na,b,c,1\n", "has no column 'category'"),
        (f"{HEADER}\na,T,c,b,cheap\n", "price is cheap, which is not DOUBLE"),
        (f"{HEADER}\n", "has no rows"),
    ],
)
def test_a_broken_catalogue_is_told_by_file_and_reason(source, text, sentence):
    (source / "items.csv").write_text(text)
    with pytest.raises(FootpathError, match=f"items.csv.*{sentence}"):
        build_items(SHOP, Lake.of("shop"))


def test_missing_files_and_wrong_expressions_are_told(source):
    with pytest.raises(FootpathError, match=r"has no file of items: looked for items.csv under"):
        build_items(SHOP, Lake.of("shop"))
    wrong = dataset_like("shop", items=SHOP.items.model_dump() | {"title": "titel"})
    with pytest.raises(FootpathError, match=r"items.title: `titel` is not valid"):
        build_items(wrong, Lake.of("shop"))


def test_a_data_set_without_users_publishes_none(source):
    assert build_users(dataset_like("shop", users=None, tasks=[]), Lake.of("shop")) == 0
    assert not Lake.of("shop").single("users").exists()


def test_the_genuine_movielens_files_are_read_whole(ml_100k, lake_home, tmp_path):
    dataset, lake = dataset_like("ml-100k"), Lake.of("ml-100k")
    link_source("ml-100k", str(ml_100k))
    assert (build_items(dataset, lake), build_users(dataset, lake)) == (1682, 943)
    titles = pq.read_table(lake.single("items"))["title"].to_pylist()
    # The file is in Latin-1.
    packed = next(ml_100k.glob("u.item*"))
    raw = packed.read_bytes()
    raw = gzip.decompress(raw) if packed.suffix == ".gz" else raw
    assert sum("é" in title for title in titles if title) == sum(
        b"\xe9" in line.split(b"|")[1] for line in raw.splitlines()
    )
