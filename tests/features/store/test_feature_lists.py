"""A list of features changes, and services of before go on: through Feast, offline and online."""

import datetime as dt
from pathlib import Path

import pandas as pd
import pytest
from feast import FeatureStore

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from features.learning.head_features import retrieved
from features.store import apply_registry, check_online, known_services, materialize, repository
from features.store.repository import open_store
from features.store.view_specs import behavior_view
from tests.features.behavior.test_columns import DAYS_SINCE, SUMS, VIEWS, declaring
from tests.features.behavior.test_revisions import ANN, BOB, DAYS, LATE, build, publish_log

FIRST, SECOND, THIRD = declaring(VIEWS), declaring(VIEWS, SUMS), declaring(SUMS)
SERVICES = ["user_behavior__v1", "user_behavior__v2", "user_behavior__v3"]
THEN = dt.datetime(2026, 3, 11, 2, tzinfo=dt.UTC)  # the rows of the first day are known


class Reader:
    """What services give of two users, ann and bob: by Feast alone and by ours, which agree."""

    def __init__(self, lake: Lake) -> None:
        self.stock = FeatureStore(repo_path=str(repository(lake) / "stock"))
        self.ours = open_store(lake)

    def offline(self, service: str, at: dt.datetime) -> dict[str, list]:
        """A training set: column -> values."""
        entities = pd.DataFrame({"user_id": ["ann", "bob"], "event_timestamp": pd.Timestamp(at)})
        stock, ours = (
            store.get_historical_features(
                entities, store.get_feature_service(service), filter_by_created_timestamp=True
            )
            .to_arrow()
            .sort_by("user_id")
            .drop_columns(["user_id", "event_timestamp"])
            for store in (self.stock, self.ours)
        )
        found = {name: ours[name].to_pylist() for name in sorted(ours.column_names)}
        assert found == stock.to_pydict()
        return found

    def online(self, service: str) -> dict[str, list]:
        """What is served now: column -> values."""
        rows = [{"user_id": "ann"}, {"user_id": "bob"}]
        stock, ours = (
            store.get_online_features(store.get_feature_service(service), rows).to_dict()
            for store in (self.stock, self.ours)
        )
        assert stock == ours
        return {name: ours[name] for name in sorted(ours) if name != "user_id"}


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)


def serve(dataset: Dataset, lake: Lake) -> str:
    """Applies and materializes; returns the service behind the alias."""
    apply_registry(dataset, lake)
    materialize(dataset, lake)
    check = check_online(dataset, lake)
    assert (check.mismatches, check.sampled) == ([], check.equal)
    return known_services(lake).aliases["user_behavior"]


@pytest.fixture
def lake(lake_home: Path) -> Lake:
    """The first list, built, registered and served."""
    lake = Lake.of("shop")
    publish_log(FIRST, lake, [ANN, BOB])
    build(FIRST, lake, DAYS[:1])
    assert serve(FIRST, lake) == SERVICES[0]
    return lake


def test_a_new_feature_is_the_next_service_and_the_one_before_goes_on(lake: Lake):
    before = {"view_1d": [1, 1], "view_2d": [1, 1]}
    nothing = {"value_sum_1d": [None] * 2, "value_sum_2d": [None] * 2}
    sums = {"value_sum_1d": [5.0, 7.0], "value_sum_2d": [5.0, 7.0]}

    # The list has changed, and no day was built under it yet.
    assert serve(SECOND, lake) == SERVICES[1]
    reader = Reader(lake)
    assert reader.offline(SERVICES[0], now()) == reader.online(SERVICES[0]) == before
    assert reader.offline(SERVICES[1], now()) == reader.online(SERVICES[1]) == nothing | before

    build(SECOND, lake, DAYS[:1])
    assert serve(SECOND, lake) == SERVICES[1]
    assert reader.offline(SERVICES[0], now()) == reader.online(SERVICES[0]) == before
    assert reader.offline(SERVICES[1], now()) == reader.online(SERVICES[1]) == sums | before
    # As of then nobody knew: a training set for the past stays what it was.
    assert reader.offline(SERVICES[0], THEN) == before
    assert reader.offline(SERVICES[1], THEN) == nothing | before
    head = retrieved(lake, behavior_view(SECOND, lake), ["ann", "bob"], THEN)
    assert head["view_1d"].to_pylist() == [1.0, 1.0]
    assert head["value_sum_1d"].to_pylist() == [None, None]


def test_a_removed_feature_is_null_for_its_service_in_rows_that_are_built_after(lake: Lake):
    build(SECOND, lake, DAYS[:1])
    serve(SECOND, lake)
    publish_log(THIRD, lake, [ANN, BOB, LATE])
    build(THIRD, lake, DAYS[:1])
    assert serve(THIRD, lake) == SERVICES[2]
    views = {"view_1d": [None, 1], "view_2d": [None, 1]}  # of ann a row was built after
    sums = {"value_sum_1d": [25.0, 7.0], "value_sum_2d": [25.0, 7.0]}
    reader = Reader(lake)
    assert reader.offline(SERVICES[0], now()) == reader.online(SERVICES[0]) == views
    assert reader.offline(SERVICES[1], now()) == reader.online(SERVICES[1]) == sums | views
    assert reader.offline(SERVICES[2], now()) == reader.online(SERVICES[2]) == sums
    assert reader.offline(SERVICES[0], THEN) == {"view_1d": [1, 1], "view_2d": [1, 1]}

    build(THIRD, lake, DAYS[1:2])  # a day that no list before has seen
    serve(THIRD, lake)
    assert reader.offline(SERVICES[0], now())["view_2d"] == [None, None]
    assert reader.offline(SERVICES[1], now())["value_sum_2d"] == [25.0, 7.0]
    assert reader.online(SERVICES[1])["view_2d"] == [None, None]


def test_a_feature_that_means_something_else_is_the_next_service(lake_home: Path):
    plain, capped = declaring(DAYS_SINCE), declaring(DAYS_SINCE | {"cap_days": 1})
    lake = Lake.of("shop")
    assert apply_registry(plain, lake).aliases == {"user_behavior": SERVICES[0]}
    assert apply_registry(capped, lake).aliases == {"user_behavior": SERVICES[1]}
    assert apply_registry(plain, lake).aliases == {"user_behavior": SERVICES[0]}


def test_a_day_that_an_older_process_has_published_gets_its_columns_from_the_next_apply(lake: Lake):
    apply_registry(SECOND, lake)
    lake.day("user_behavior_features", DAYS[0]).unlink()
    build(FIRST, lake, DAYS[:2])  # as a process that has not read the YAML again
    assert serve(SECOND, lake) == SERVICES[1]
    found = Reader(lake).offline(SERVICES[1], now())
    assert found["view_2d"] == [1, 1]
    assert found["value_sum_2d"] == [None, None]
