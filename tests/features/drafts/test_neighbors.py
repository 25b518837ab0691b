"""Tables of users and items are told from events, and drafted where they lie beside them."""

import json
from pathlib import Path

import pytest

from contracts.base.errors import FootpathError
from contracts.config.sources import link_source
from contracts.lake.layout import Lake
from features.drafts.drafting import draft
from features.ingestion.lookup_tables import build_items, build_users
from tests.builders.drafts import drafted, put

EVENTS = "user_id,ts,event,sku\n" + "".join(
    f"u{n % 7},{1767607200 + n},view,s{n % 5}\n" for n in range(40)
)
USERS = "user_id,signup_date,plan,age\n" + "".join(
    f"u{n},2025-01-0{n + 1},{('free', 'pro')[n % 2]},{20 + n}\n" for n in range(8)
)
PRODUCTS = "".join(
    json.dumps({"sku": f"s{n}", "title": f"Shoe {n}", "department": f"d{n % 2}", "price": n + 0.5})
    + "\n"
    for n in range(9)
)


@pytest.fixture(autouse=True)
def home(lake_home):
    """Keeps what is known of archives out of the user's home."""


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("users.csv", USERS, r"a table of users, a row for each user \(user_id is in all 8 rows"),
        ("products.jsonl", PRODUCTS, r"a table of items, a row for each item \(sku is in all 9"),
    ],
)
def test_a_table_of_users_or_items_is_told_from_events(tmp_path: Path, name, text, sentence):
    with pytest.raises(FootpathError, match=sentence):
        draft(str(put(tmp_path / name, text)), "mine")


def test_users_and_items_beside_the_events_are_drafted(tmp_path: Path):
    put(tmp_path / "people.csv", USERS)
    put(tmp_path / "catalog.jsonl", PRODUCTS)
    put(tmp_path / "notes.txt", "nothing of it\n")
    made = drafted(put(tmp_path / "clicks.csv", EVENTS))
    users, items = made.dataset.users, made.dataset.items
    assert users is not None
    assert items is not None
    assert (users.url, users.user_id, sorted(users.attributes)) == (
        "people.csv",
        "user_id",
        ["age", "plan", "signup_date"],
    )
    assert (items.url, items.item_id, items.title, items.category) == (
        "catalog.jsonl",
        "sku",
        "title",
        "department",
    )
    link_source("mine", made.folder)
    lake = Lake.of("mine")
    assert (build_users(made.dataset, lake), build_items(made.dataset, lake)) == (8, 9)
    assert "people.csv has 7 of 7 ids of users" in made.comments
    assert "1 file lies (notes.txt) beside that no line reads" in made.comments


def test_more_files_of_the_same_kind_are_counted(tmp_path: Path):
    for name in ("clicks-east.csv", "clicks-west.csv", "clicks-north.csv"):
        put(tmp_path / name, EVENTS)
    made = drafted(tmp_path / "clicks-east.csv")
    assert made.files == 1
    assert "2 files lie (clicks-north.csv, clicks-west.csv) beside with the same" in made.todos


def test_numbered_parts_are_one_source_and_a_shard_is_no_hour(tmp_path: Path):
    for day, part in ((5, "01"), (5, "24"), (6, "01")):
        put(tmp_path / "a" / f"2026-01-0{day}" / f"{part}.csv", EVENTS)
        put(tmp_path / "b" / f"part-000{day}{part}.csv", EVENTS)
    dated = drafted(tmp_path / "a" / "2026-01-05" / "01.csv")
    assert (dated.files, dated.dataset.landing.url) == (3, "{year}-{month}-{day}/*.csv")
    parts = drafted(tmp_path / "b" / "part-000501.csv")
    assert (parts.files, parts.dataset.landing.url) == (3, "part-*.csv")
    assert parts.dataset.partitions.end is None


def test_a_span_of_days_in_a_name_gives_its_first_day(tmp_path: Path):
    for first, last in ((5, 6), (6, 7)):
        name = f"2026-01-0{first} 00:00-2026-01-0{last} 00:00.csv"
        put(tmp_path / "ph" / name, EVENTS)
    made = drafted(tmp_path / "ph" / "2026-01-05 00:00-2026-01-06 00:00.csv")
    assert made.dataset.landing.url == "{year}-{month}-{day} *.csv"
    assert (made.files, made.refused) == (2, 0)
