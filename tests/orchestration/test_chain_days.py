"""Which days a run builds when none are named."""

import datetime as dt

import pytest

from orchestration.chain import WholeChain, _days
from tests.builders.datasets import dataset_like

DAYS = [dt.date(2026, 1, day) for day in (2, 3, 5)]


@pytest.mark.parametrize(
    ("ahead", "end", "last"),
    [(1, None, "2026-01-05"), (4, None, "2026-01-08"), (9, "2026-01-07", "2026-01-07")],
)
def test_the_last_day_is_the_last_that_an_event_of_the_last_file_may_have(ahead, end, last):
    shop = dataset_like("shop")
    landing = shop.landing.model_dump() | {"ahead_days": ahead}
    dataset = dataset_like("shop", landing=landing, partitions={"start": "2026-01-01", "end": end})
    assert _days(dataset, WholeChain(), DAYS) == (
        dt.date(2026, 1, 1),
        dt.date.fromisoformat(last),
    )
