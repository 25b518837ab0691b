"""What a feature means changes with what is computed, and with nothing else."""

import pytest

from features.behavior.meanings import feature_meanings
from tests.builders.datasets import dataset_like
from tests.features.behavior.test_columns import DAYS_SINCE, SUMS, VIEWS, declaring


@pytest.mark.parametrize(
    ("was", "now", "changed"),
    [
        (
            ([{"kind": "gaps"}], {}),
            ([{"kind": "gaps", "stats": ["mean", "std", "last"], "windows": [2, 1]}], {}),
            set(),
        ),
        (([VIEWS, SUMS], {}), ([SUMS, VIEWS], {}), set()),
        (
            ([{"kind": "funnel", "of": "purchase", "per": "view"}], {}),
            ([{"kind": "funnel", "of": "purchase", "per": "view", "smoothing": 0.0}], {}),
            set(),
        ),
        (
            ([{"kind": "time_of_day", "parts": {"day": (6, 18)}, "windows": [1]}], {}),
            ([{"kind": "time_of_day", "parts": {"day": (6, 20)}, "windows": [1]}], {}),
            {"day_share_1d"},
        ),
        (
            ([DAYS_SINCE], {}),
            ([DAYS_SINCE | {"cap_days": 1}], {}),
            {"days_since_last_event"},
        ),
        (([DAYS_SINCE, VIEWS], {}), ([DAYS_SINCE, VIEWS], {"windows": [1, 2, 9]}), {
            "days_since_last_event"
        }),
        (([], {"standard": True}), ([VIEWS], {"standard": True}), set()),
    ],
    ids=["defaults", "order", "float", "hours", "cap", "longest window", "standard too"],
)  # fmt: skip
def test_a_meaning_changes_with_what_is_computed_and_with_nothing_else(was, now, changed):
    before, after = (feature_meanings(declaring(*entries, **more)) for entries, more in (was, now))
    assert before.keys() <= after.keys()
    assert {name for name in before if after[name] != before[name]} == changed
    assert len({*after.values()}) == len(after)


def test_a_category_keeps_its_meaning_where_it_stands_elsewhere_in_the_list():
    def meanings(*categories: str) -> dict[str, str]:
        declared = [{"kind": "count", "category": name} for name in categories]
        section = {"windows": [1], "categories": categories, "declared": declared}
        return feature_meanings(dataset_like("shop", features=section))

    few, more = meanings("shoes", "hats"), meanings("bags", "hats", "shoes")
    assert few == {name: more[name] for name in few}
    renamed = meanings("Shoes!", "hats")  # the same column, of another category
    assert {name for name in few if renamed[name] != few[name]} == {
        "category_share_shoes_1d",
        "events_shoes_1d",
    }


def test_meanings_do_not_move_with_the_code():
    """Published days hold these: every one of them would be built again."""
    meanings = feature_meanings(declaring(VIEWS, SUMS, DAYS_SINCE | {"cap_days": 1}))
    trend = {"kind": "trend", "short": 1, "long": 2}
    funnel = {"kind": "funnel", "of": "purchase", "per": "view", "windows": [2]}
    entropy = {"kind": "entropy", "of": "actions", "windows": [1]}
    assert meanings | feature_meanings(declaring(trend, funnel, entropy)) == {
        "view_1d": "fd89948c2d9c4709",
        "view_2d": "9cd8f69249d251d5",
        "value_sum_1d": "57150809c6c850c9",
        "value_sum_2d": "c1e66f4849e81cdc",
        "days_since_last_event": "b37b04d3a861dabd",
        "events_trend_1d_2d": "becb45ed9b387421",
        "purchase_per_view_2d": "b0789d6286ebb47d",
        "action_entropy_1d": "a53ea64295c6ffce",
    }
