"""What looks wrong in a sample is told in a sentence, and what is right is not."""

import json

import pytest

from contracts.config.dataset import Dataset
from features.drafts.preview import Gate, findings, preview
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


def told(source: Source, events: list[dict], dataset: Dataset = SHOP, gate: Gate | None = None):
    source.write("2026-01-05/09", *map(json.dumps, events))
    return "\n".join(findings(dataset, preview(dataset, str(source.folder), gate=gate)))


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
    assert "10% of events break a rule, and quality.max_broken_share is 5%" in said
    assert "would stop" not in told(source, rows(user=lambda n: f"u{n}" if n else None), gate=gate)


def test_rows_that_come_too_late_are_told(source):
    dataset = dataset_like(
        "shop", partitions=SHOP.partitions.model_dump(), lateness={"allowed_days": 2}
    )
    late = rows(ts=lambda n: "2026-01-01T10:00:00Z" if n < 4 else f"2026-01-05T10:{n:02}:00Z")
    said = told(source, late, dataset)
    assert "4 of 40 (10.0%) rows are refused as too_late" in said
    assert "raise lateness.allowed_days" in said
