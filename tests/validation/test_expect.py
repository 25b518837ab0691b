"""What a YAML expects of columns: the row rules made from it, and their thresholds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.base.errors import FootpathError
from tests.builders.datasets import dataset_like
from tests.validation.staged import DAY, event, gate_events, stage_events
from tests.validation.test_rules import audited
from validation.table_rules import events_audit

EXPECT = [
    {"column": "properties.device", "one_of": ["phone", "desktop"]},
    {"column": "value", "actions": ["purchase"], "required": True, "min": 0.5, "max": 9},
    {"column": "item_id", "actions": ["view", "purchase"], "required": True},
    {"column": "item_id", "matches": r"i\d+(\.x)?"},
]
SHOP = dataset_like("shop", quality={"expect": EXPECT, "max_broken_share": 0.9})

MESSY = st.lists(
    st.builds(
        event,
        st.uuids().map(str),
        action=st.sampled_from(["search", "view", "purchase", None]),
        value=st.sampled_from([None, 0.0, 1.0, 10.0, float("nan")]),
        item_id=st.sampled_from([None, "i1", "i22.x", "i", "xi1", "i1\n", "i1 ", "I1", "i٣"]),
        properties=st.sampled_from([None, [], [("device", "phone")], [("device", "fridge")]]),
    ),
    min_size=1,
    max_size=20,
)


def by_hand(rows: list[dict]) -> dict[str, int]:
    """Counts the broken rows in plain Python."""
    bought = [row["value"] for row in rows if row["action"] == "purchase"]
    devices = [dict(row["properties"] or []).get("device") for row in rows]
    shown = [row["item_id"] for row in rows if row["action"] in ("view", "purchase")]
    good = {None, "i1", "i22.x"}
    counts = {
        "properties_device_known_expected": devices.count("fridge"),
        "value_of_purchase_required": bought.count(None),
        "value_of_purchase_at_least": bought.count(0.0),
        # The projection gives NaN as infinity.
        "value_of_purchase_at_most": sum(v is not None and not v <= 9 for v in bought),
        "item_id_of_view_purchase_required": shown.count(None),
        "item_id_matches_expected": sum(row["item_id"] not in good for row in rows),
    }
    return {rule: n for rule, n in counts.items() if n}


@settings(max_examples=6, deadline=None)
@given(rows=MESSY)
def test_both_engines_count_what_is_expected(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("staged")
    paths = {DAY: stage_events(folder, {DAY: rows})[DAY].path}
    counts, disagreements = audited(events_audit(SHOP), paths)
    assert disagreements == []
    expected = by_hand(rows)
    assert {r: n for r, n in counts[DAY].broken.items() if r in RULES} == expected


RULES = {rule.name for rule in events_audit(SHOP).rules} - {
    rule.name for rule in events_audit(dataset_like("shop", quality={})).rules
}


def test_a_sentence_names_the_column_and_the_actions():
    told = {rule.name: rule.sentence for rule in events_audit(SHOP).rules}
    assert told["value_of_purchase_at_least"] == "value of purchase must be at least 0.5"
    assert told["item_id_of_view_purchase_required"] == "item_id of view or purchase must be there"
    assert told["properties_device_known_expected"] == (
        "properties.device must be one of phone, desktop"
    )


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"column": "value", "one_of": ["a"]}, "value is a number"),
        ({"column": "item_id", "min": 1}, "item_id is a text"),
        ({"column": "item_id"}, "nothing is expected of item_id"),
        ({"column": "item_id", "matches": "(?=a)a"}, "is no regular expression"),
        ({"column": "nonsense", "required": True}, "column"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused_with_the_yaml(entry, sentence):
    with pytest.raises(ValidationError, match=sentence):
        dataset_like("shop", quality={"expect": [entry]})


@pytest.mark.parametrize(
    ("quality", "sentence"),
    [
        ({"expect": [EXPECT[0] | {"column": "properties.x"}]}, "events.properties has no 'x'"),
        ({"expect": [EXPECT[2] | {"actions": ["fly"]}]}, "fly is not among `actions`"),
        ({"expect": [EXPECT[3], EXPECT[3]]}, "says the same thing twice: item_id_matches"),
        ({"rules": {"value_at_lest": 0}}, "quality.rules.value_at_lest: is no rule"),
    ],
)
def test_what_the_data_set_does_not_have_is_named(quality, sentence):
    with pytest.raises((FootpathError, ValidationError), match=sentence):
        events_audit(dataset_like("shop", quality=quality))


def test_one_rule_may_be_stricter_than_the_others(lake):
    rows = [event(f"e{n}", item_id="" if n == 3 else "i") for n in range(100)]
    strict = dataset_like("shop", quality={"rules": {"item_id_length": 0}})
    verdict = gate_events(lake, {DAY: rows}, strict)[DAY]
    assert not verdict.passed
    assert verdict.failures[0] == (
        f"events {DAY}: 1 of 100 rows break item_id_length (1.00%, and 0.00% may)"
    )
    lax = dataset_like("shop", quality={"rules": {"item_id_length": 0.01}})
    verdict = gate_events(lake, {DAY: rows}, lax)[DAY]
    assert (verdict.passed, verdict.rows_quarantined) == (True, 1)
