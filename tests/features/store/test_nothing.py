"""What a user has none of is null in a training set and online, and counts of it are 0."""

import datetime as dt
from pathlib import Path

import pandas as pd

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from features.store import apply_registry, check_online, materialize
from features.store.repository import open_store
from tests.builders.datasets import dataset_like
from tests.builders.events import Event
from tests.features.behavior.test_revisions import ANN, BOB, ENDS, build, publish_log

VIEW = "user_behavior_features_v1"
NAMES = ["events_2d", "value_sum_2d", "value_mean_2d", "hours_since_last_purchase"]
BUYS = Event("ann", ANN.timestamp + dt.timedelta(days=1), "4", "purchase", "i2", 20.0)


def shop() -> Dataset:
    features = {"windows": [1, 2], "delay_minutes": 60}
    actions = ["view", "purchase"]
    return dataset_like("shop", timezone="UTC", actions=actions, items=None, features=features)


def offline(lake: Lake, hours: int) -> list:
    """Reads what was known of Ann some hours after the end of her first day."""
    instant = pd.Timestamp(ENDS + dt.timedelta(hours=hours))
    asked = pd.DataFrame({"user_id": ["ann"], "event_timestamp": [instant]})
    names = [f"{VIEW}:{name}" for name in NAMES]
    found = open_store(lake).get_historical_features(asked, names, filter_by_created_timestamp=True)
    [row] = found.to_arrow().to_pylist()
    return [row[name] for name in NAMES]


def online(lake: Lake, user: str) -> list:
    names = [f"{VIEW}:{name}" for name in NAMES]
    found = open_store(lake).get_online_features(names, [{"user_id": user}]).to_dict()
    return [found[name][0] for name in NAMES]


def test_nothing_becomes_something_and_nothing_again_online_and_offline(lake_home: Path):
    dataset, lake = shop(), Lake.of("shop")
    nothing = [0, 0.0, None, None]
    publish_log(dataset, lake, [ANN, BOB])
    build(dataset, lake)
    apply_registry(dataset, lake)
    materialize(dataset, lake)
    assert offline(lake, 2) == [1, 5.0, 5.0, None]
    assert online(lake, "ann") == offline(lake, 2 * 24 + 2) == nothing

    publish_log(dataset, lake, [ANN, BOB, BUYS])
    build(dataset, lake)
    materialize(dataset, lake)
    assert online(lake, "ann") == [1, 20.0, 20.0, 36.0]
    assert offline(lake, 24 + 2) == [1, 5.0, 5.0, None]  # the correction was not known yet
    assert check_online(dataset, lake).mismatches == []

    publish_log(dataset, lake, [BOB])
    build(dataset, lake)
    materialize(dataset, lake)
    assert online(lake, "ann") == nothing
    check = check_online(dataset, lake)
    assert (check.sampled, check.mismatches) == (2, [])
