"""What looks wrong in a sample is told in a sentence, and what is right is not."""

import json

import pytest

from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from features.drafts.findings import findings
from features.drafts.preview import Gate, preview
from features.drafts.sample import sample_files
from tests.builders.datasets import dataset_like
from tests.builders.landing import Source

SHOP = dataset_like("shop", partitions={"start": "2026-01-01", "end": "2026-01-31"})


def rows(**fields) -> list[dict]:
    """Forty good events, with some fields made otherwise: a value, or a function of the number."""
    return [
        {
            "id": f"e{n}",
            "user": f"u{n % 8}",
            "ts": f"2026-01-05T10:{n:02}:00+01:00",
            "type": ["search", "view", "add_to_cart", "purchase"][n % 4],
            "item": f"i{n % 3}",
            "price": 1.5,
        }
        | {key: value(n) if callable(value) else value for key, value in fields.items()}
        for n in range(40)
    ]


def write_lookups(source: Source, items: int = 3, users: int = 41) -> None:
    """A catalog of items i0... of all categories in turn, and users u0..."""
    categories = SHOP.features.categories
    lines = [f"i{n},Thing,{categories[n % len(categories)]},b,1" for n in range(items)]
    lines += [f"x{n},Thing,{category},b,1" for n, category in enumerate(categories)]
    (source.folder / "items.csv").write_text(
        "item,title,category,brand,price\n" + "\n".join(lines) + "\n"
    )
    lines = [f"u{n},{20 + n},f" for n in range(users)]
    (source.folder / "users.csv").write_text("user,age,gender\n" + "\n".join(lines) + "\n")


def told(source: Source, events: list[dict], dataset: Dataset = SHOP, gate: Gate | None = None):
    source.write("2026-01-05/09", *map(json.dumps, events))
    if not (source.folder / "items.csv").exists():
        write_lookups(source)
    return said(source, dataset, gate)


def said(source: Source, dataset: Dataset = SHOP, gate: Gate | None = None) -> str:
    found = findings(dataset, preview(dataset, str(source.folder), gate=gate))
    return "\n".join(f"x {each.text}" if each.fails else each.text for each in found)


def test_nothing_is_said_of_good_rows(source):
    assert told(source, rows()) == ""


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"ts": lambda n: "soon" if n % 4 == 1 else "2026-01-05T10:00:00Z"},
         "10 of 40 (25.0%) rows are refused as undated (line 2: `TRY_CAST(ts AS TIMESTAMPTZ)`"),
        ({"ts": lambda n: f"2025-12-3{n % 2}T10:00:00Z"},
         "The sample begins on 2025-12-30, and partitions.start is 2026-01-01."),
        ({"ts": lambda n: f"2026-01-05T10:{n:02}:00Z" if n else "2027-01-01T00:00:00Z"},
         "The sample ends on 2027-01-01, and partitions.end is 2026-01-31."),
        ({"type": lambda n: "wishlist" if n < 2 else "view"},
         "2 of 40 (5.0%) events have an action that `actions` does not list: 'wishlist' (2)."),
        ({"type": "view"}, "`actions` lists search, add_to_cart, purchase, which the sample does"),
        ({"item": None}, "events.item_id is null in every event: fix it, or leave it out."),
        ({"id": lambda n: f"e{n // 2}"}, "20 of 40 (50.0%) events have the event_id of another"),
        ({"ts": "2026-01-05T10:00:00Z"}, "All events are at one moment"),
        ({"ts": lambda n: f"2026-01-{n % 9 + 2:02}T00:00:00+01:00"}, "Every event is at midnight"),
        ({"user": "me"}, "All events are one user's: fix events.user_id."),
        ({"user": lambda n: "NaN" if n % 4 == 0 else f"u{n}"},
         "10 of 40 (25.0%) events have the user_id 'NaN': if that means none, list it in "
         "landing.nulls: ['NaN']."),
        ({"item": lambda n: r"\N" if n % 8 == 0 else f"i{n}"},
         r"5 of 40 (12.5%) events have the item_id '\N': if that means none, list it in landing.n"),
        ({"user": lambda n: "0" if n % 4 == 0 else f"u{n}"},
         "10 of 40 (25.0%) events are of one user, '0', among 31: if that means none, list it in "
         "landing.nulls: ['0']."),
        ({"user": lambda n: "[object Object]" if n % 4 == 0 else f"u{n % 8}"},
         "10 of 40 (25.0%) events have the user_id '[object Object]'"),
        ({"user": lambda n: "(not set)" if n % 4 == 0 else f"u{n % 8}"},
         "events have the user_id '(not set)': if that means none, list it in landing.nulls"),
        ({"user": lambda n: " " if n % 2 else f"u{n}"},
         "20 of 40 (50.0%) events are of one user, ' ', among 21: if that means none, list it in "
         "landing.nulls: [' ']."),
        ({"user": lambda n: {"a": n} if n % 8 == 0 else f"u{n}"},
         "5 of 40 (12.5%) rows are refused as unreadable (line 1: events.user_id is {\"a\":0}, an "
         "object or array and no id)"),
        ({"item": lambda n: float(n % 3)}, "events with an item have one that the catalog does"),
        ({"item": lambda n: f"{n % 4}.0" if n % 2 else f"{n % 5}"},
         "events.item_id has 2 ids both as a whole number and with .0 (1 and 1.0), which are two: "
         r"use regexp_replace(item, '\.0$', '') if they are one."),
        ({"user": lambda n: f"u{n}"}, "40 events have 40 users, about one each"),
    ],
)  # fmt: skip
def test_what_looks_wrong_is_told(source, fields, sentence):
    assert sentence in told(source, rows(**fields))


def test_rules_of_the_gate_are_counted_and_held_against_the_share_that_may_break(source):
    gate = Gate({"user_id": "user_id", "value": "value"}, {
        "user_id_present": "user_id IS NULL", "value_at_least": "value < 0",
    })  # fmt: skip
    events = rows(user=lambda n: f"u{n % 8}" if n > 1 else None, price=lambda n: -1 if n < 4 else 1)
    said = told(source, events, gate=gate)
    assert "2 of 40 (5.0%) events break the rule user_id_present: to quarantine." in said
    assert "4 of 40 (10.0%) events break the rule value_at_least: to quarantine." in said
    assert "10% of its events break a rule, and quality.max_broken_share is 5%" in said
    assert "would stop" not in told(source, rows(user=lambda n: f"u{n}" if n else None), gate=gate)


def test_events_without_their_item_or_user_in_the_tables_are_counted(source):
    write_lookups(source, items=2, users=5)
    text = told(source, rows())
    assert (
        "13 of 40 (32.5%) events with an item have one that the catalog does not know, the most "
        "(13) 'i2': compare events.item_id with items.item_id."
    ) in text
    assert "15 of 40 (37.5%) events with a user have one that users does not know" in text
    table = preview(SHOP, str(source.folder)).coverage["users"]
    assert (table.keys, table.found, table.events) == (5, 25, 40)


def test_a_table_that_cannot_be_read_fails_and_a_field_without_a_value_is_told(source):
    write_lookups(source)
    users = source.folder / "users.csv"
    users.write_text(users.read_text().replace(",f\n", ",\n"))
    text = told(source, rows())
    assert "users.attributes.gender is null in all rows" in text
    users.unlink()
    assert "x users: data set 'shop' has no file of users: looked for users.csv" in told(
        source, rows()
    )


def test_a_category_of_the_features_that_no_item_has_is_told(source):
    features = {"categories": ["shoes", "shoez"]}
    dataset = dataset_like("shop", partitions=SHOP.partitions.model_dump(), features=features)
    assert "features.categories lists shoez, which no item has." in told(source, rows(), dataset)


def test_every_file_is_looked_into_and_what_only_some_have_is_told_with_their_names(source):
    for n in range(9, 14):
        source.write(f"2026-01-05/{n:02}", *map(json.dumps, rows(id=lambda k, n=n: f"{n}-{k}")))
    bad = [row | {"ts": "soon"} for row in rows()]
    source.write("2026-01-05/14", *map(json.dumps, bad))
    source.write("2026-01-05/15", *map(json.dumps, rows(type="wish", id=lambda k: f"w{k}")))
    write_lookups(source)
    found = preview(SHOP, str(source.folder))
    assert (found.files, found.looked_at, found.rows) == (7, 7, 280)
    text = said(source)
    assert "x events/2026-01-05/14.jsonl.gz: none of its 40 rows becomes a dated event" in text
    assert "x 1 of 7 (14.3%) files cannot be used, the others can" in text
    assert (
        "40 of 280 (14.3%) rows, in 1 of 7 files, are refused as undated "
        "(events/2026-01-05/14.jsonl.gz line 1: `TRY_CAST(ts AS TIMESTAMPTZ)`"
    ) in text
    assert "40 of 240 (16.7%) events have an action that `actions` does not list: 'wish'" in text


def test_a_day_that_would_stop_fails_though_the_sample_as_a_whole_would_not(source):
    gate = Gate({"value": "value"}, {"value_at_least": "value < 0"})
    for day in range(5, 10):
        events = rows(id=lambda n, day=day: f"{day}-{n}", price=-1 if day == 7 else 1)
        lines = (json.dumps(row).replace("2026-01-05T", f"2026-01-0{day}T") for row in events)
        source.write(f"2026-01-0{day}/09", *lines)
    write_lookups(source)
    dataset = dataset_like(
        "shop", partitions=SHOP.partitions.model_dump(), quality={"max_broken_share": 0.3}
    )
    assert (
        "x 1 of 5 days of the sample would stop, such as 2026-01-07: 100% of its events break a "
        "rule, and quality.max_broken_share is 30%."
    ) in said(source, dataset, gate)


def test_files_for_which_there_is_no_time_are_counted_and_the_last_is_looked_into(
    source, monkeypatch
):
    for day in range(5, 12):
        source.write(f"2026-01-{day:02}/09", *map(json.dumps, rows()))
    monkeypatch.setattr("features.drafts.sample.FILES", 2)
    with connect() as connection:
        sample = sample_files(connection, SHOP, str(source.folder), seconds=0)
        files = connection.sql("SELECT DISTINCT source_file FROM sampled ORDER BY 1").fetchall()
    assert (len(sample.files), sample.looked_at) == (7, 2)
    assert files == [("events/2026-01-05/09.jsonl.gz",), ("events/2026-01-11/09.jsonl.gz",)]


def test_rows_that_come_too_late_are_told(source):
    dataset = dataset_like(
        "shop", partitions=SHOP.partitions.model_dump(), lateness={"allowed_days": 2}
    )
    late = rows(ts=lambda n: "2026-01-01T10:00:00Z" if n < 4 else f"2026-01-05T10:{n:02}:00Z")
    said = told(source, late, dataset)
    assert "4 of 40 (10.0%) rows are refused as too_late" in said
    assert "raise lateness.allowed_days" in said
