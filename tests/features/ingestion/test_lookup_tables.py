"""Catalog and users: one row a key, the later one counts, broken files are told."""

import gzip
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from contracts.base.errors import FootpathError
from contracts.config.sources import link_source
from contracts.lake.layout import Lake
from features.ingestion.lookup_tables import build_items, build_users
from tests.builders.datasets import dataset_like

SHOP = dataset_like("shop")
assert SHOP.items is not None
ITEMS = SHOP.items.model_dump()
HEADER = "item,title,category,brand,price"


def write_items(folder: Path, *rows: str, header: str = HEADER) -> None:
    (folder / "items.csv").write_text("\n".join([header, *rows]) + "\n")


def items() -> dict[str, dict]:
    rows = pq.read_table(Lake.of("shop").single("items")).to_pylist()
    return {row["item_id"]: row | {"attributes": dict(row["attributes"])} for row in rows}


def test_an_item_has_its_title_category_and_the_attributes_that_it_has(folder):
    write_items(folder, 'a,"Shirt, navy",clothes,Acme,9.5', "b,Hat,,,")
    assert build_items(SHOP, Lake.of("shop")) == 2
    assert items()["a"] == {
        "item_id": "a",
        "title": "Shirt, navy",
        "category": "clothes",
        "attributes": {"brand": "Acme", "price": "9.5"},
    }
    assert items()["b"]["category"] is None
    assert items()["b"]["attributes"] == {}


def test_the_later_row_of_a_key_counts(folder):
    write_items(folder, "a,Old,x,,1", "b,B,x,,1", "a,New,y,,2")
    assert build_items(SHOP, Lake.of("shop")) == 2
    assert items()["a"]["title"] == "New"


def test_a_few_rows_without_a_key_are_left_out_and_many_stop_the_table(folder):
    good = [f"i{n},T,c,b,1" for n in range(40)]
    write_items(folder, *good, ",No key,c,b,1")
    assert build_items(SHOP, Lake.of("shop")) == 40
    write_items(folder, *good[:5], ",No key,c,b,1")
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
def test_a_broken_catalog_is_told_by_file_and_reason(folder, text, sentence):
    (folder / "items.csv").write_text(text)
    with pytest.raises(FootpathError, match=f"items.csv.*{sentence}"):
        build_items(SHOP, Lake.of("shop"))


def test_missing_files_and_wrong_expressions_are_told(folder):
    with pytest.raises(FootpathError, match=r"has no file of items: looked for items.csv under"):
        build_items(SHOP, Lake.of("shop"))
    wrong = dataset_like("shop", items=ITEMS | {"title": "titel"})
    with pytest.raises(FootpathError, match=r"items.title: `titel` is not valid"):
        build_items(wrong, Lake.of("shop"))


def test_a_data_set_without_users_publishes_none(folder):
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


def packed(url: str, **fields) -> dict:
    """An items section over files whose row is one text."""
    return {
        "url": url,
        "format": "csv",
        "csv": {"delimiter": "\t", "header": False, "quote": ""},
        "columns": {"line": "VARCHAR"},
    } | fields


def test_a_row_becomes_an_item_for_each_element(folder):
    (folder / "all.json").write_text('{"a": [1, 2], "b": [3]}')
    entries = "map_entries(from_json(line, '\"MAP(VARCHAR, INTEGER[])\"'))"
    section = packed(
        "all.json",
        explode=entries,
        item_id="each.key",
        title="place",
        attributes={"ids": "array_to_string(each.value, ' ')"},
    )
    dataset = dataset_like("shop", items=section, features={"categories": []})
    assert build_items(dataset, Lake.of("shop")) == 2
    found = items()
    assert [(key, row["title"], row["attributes"]) for key, row in found.items()] == [
        ("a", "1", {"ids": "1 2"}),
        ("b", "2", {"ids": "3"}),
    ]


def test_of_two_elements_of_a_row_with_one_key_the_later_one_counts(folder):
    (folder / "all.txt").write_text("x=1 y=2 x=3\n")
    section = packed(
        "all.txt",
        explode="string_split(line, ' ')",
        item_id="split_part(each, '=', 1)",
        title="split_part(each, '=', 2)",
    )
    dataset = dataset_like("shop", items=section, features={"categories": []})
    assert build_items(dataset, Lake.of("shop")) == 2
    assert items()["x"]["title"] == "3"


def test_rows_for_which_where_is_not_true_do_not_count(folder):
    write_items(folder, "a,Good,x,,1", "a,damaged,x,,", "b,Good,x,,0")
    dataset = dataset_like("shop", items=ITEMS | {"where": "price > 0"})
    assert build_items(dataset, Lake.of("shop")) == 1
    assert items()["a"]["title"] == "Good"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"where": "prize > 0"}, "items.where: `prize > 0` is not valid"),
        ({"explode": "title"}, "items.explode: `title` gives a VARCHAR, not a list"),
        ({"explode": "string_split(titel, ' ')"}, "items.explode: .* is not valid"),
    ],
)
def test_a_wrong_where_or_explode_is_told(folder, fields, sentence):
    write_items(folder, "a,Good,x,,1")
    dataset = dataset_like("shop", items=ITEMS | fields)
    with pytest.raises(FootpathError, match=sentence):
        build_items(dataset, Lake.of("shop"))
