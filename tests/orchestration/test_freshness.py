"""Assets are overdue by the deadlines of the YAML; those of a source that stands never are."""

import datetime as dt

import dagster as dg
import pytest

from contracts.config.dataset import Dataset
from orchestration.assets.behavior import behavior_assets
from orchestration.freshness import freshness_policies, with_freshness
from tests.builders.datasets import dataset_like

LATE = {"complete": {"at": "22:30"}, "alerts": {"missing_hours": 4}, "training": {"every_days": 5}}


def test_daily_assets_follow_the_deadline_and_the_model_its_cadence():
    found = freshness_policies(dataset_like("shop", automation=LATE))
    daily = dg.FreshnessPolicy.cron("30 5 * * *", dt.timedelta(days=1), "Europe/Berlin")
    model = dg.FreshnessPolicy.time_window(fail_window=dt.timedelta(days=8))
    assert found == {
        "landing": daily,
        "events": daily,
        "sessions": daily,
        "user_behavior_features": daily,
        "user_session_features": daily,
        "item_behavior_features": daily,
        "pretrained_encoder": model,
    }


@pytest.mark.parametrize(
    "dataset",
    [
        dataset_like("shop"),  # its YAML says so
        dataset_like(
            "shop", automation={}, partitions={"start": "2026-01-01", "end": "2026-03-01"}
        ),
        dataset_like("ml-100k", automation={}),
    ],
)
def test_nothing_of_a_source_that_stands_is_overdue(dataset: Dataset):
    assert freshness_policies(dataset) == {}


def test_a_source_with_empty_days_has_no_daily_deadline_and_one_by_hand_none_of_models():
    lax = dataset_like("shop", automation={"training": None}, quality={"allow_empty_days": True})
    assert freshness_policies(lax) == {}


def test_the_policy_is_on_the_asset_and_leaves_the_rest_of_it():
    shop = dataset_like("shop", automation=LATE)
    before, after = behavior_assets(shop), with_freshness(shop, behavior_assets(shop))
    for old, new in zip(before, after, strict=True):
        (was,), (spec,) = old.specs, new.specs
        assert isinstance(spec.freshness_policy, dg.FreshnessPolicy)
        assert (spec.key, spec.deps, spec.metadata) == (was.key, was.deps, was.metadata)
        assert (new.backfill_policy, new.check_keys) == (old.backfill_policy, old.check_keys)
