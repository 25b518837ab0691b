"""Features of items are registered, joined, served, verified and told of as those of users are."""

import datetime as dt

import pandas as pd
import pyarrow as pa
import pytest

from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from contracts.lake.schemas import EVENTS
from features.behavior.tables import ITEMS, LATEST_SESSION
from features.store import apply_registry, check_online, materialize, view_figures
from features.store.freshness import store_behind
from features.store.repository import open_store
from features.store.view_specs import known_views
from tests.builders.datasets import dataset_like
from tests.builders.events import Event, Midnights, publish_events
from tests.builders.store import DAY, HOUR, behavior_rows, midnight, publish_behavior

DATASET = dataset_like("shop", owner="team:shop")
DAYS = [DAY - dt.timedelta(days=1), DAY]
FEATURE = "item_behavior_features_v1:item_events_7d"
LATE = 50 * HOUR  # after the end of a day


@pytest.fixture
def lake(lake_home) -> Lake:
    """Two days of features of users, their latest sessions, and items; one row was corrected."""
    lake = Lake(lake_home / "lake" / "shop")
    for number, day in enumerate(DAYS):
        publish_behavior(lake, day, behavior_rows(DATASET, day, ["u0", "u1"], 10 * number))
        for table, ids in ((LATEST_SESSION, ["u0"]), (ITEMS, ["i0", "i1", "i2"])):
            rows = [behavior_rows(DATASET, day, ids, 10 * number, table=table)]
            if table == ITEMS and day == DAYS[0]:
                rows.append(behavior_rows(DATASET, day, ["i0"], 99, LATE, table=table))
            publish_behavior(lake, day, *rows, name=table.name)
    publish_table(lake, EVENTS.empty_table(), lake.day("events", DAYS[0]))
    noon = midnight(DATASET, DAY) - 12 * HOUR
    seen = [Event(f"u{n}", noon, str(n), item_id=f"i{n}") for n in range(2)]
    publish_events(lake, [*seen, Event("u2", noon, "2")], Midnights(DAY, DATASET.timezone))
    return lake


def online(lake: Lake, items: list[str]) -> list:
    found = open_store(lake).get_online_features([FEATURE], [{"item_id": item} for item in items])
    return found.to_dict()["item_events_7d"]


def test_each_table_has_a_view_and_a_service_with_owner_and_descriptions(lake: Lake) -> None:
    report = apply_registry(DATASET, lake)
    assert report.aliases == {
        "user_behavior": "user_behavior__v1",
        "user_session": "user_session__v1",
        "item_behavior": "item_behavior__v1",
    }
    store = open_store(lake)
    view = store.get_feature_view("item_behavior_features_v1")
    assert (view.entities, view.owner) == (["item"], "team:shop")
    assert all(field.description for field in view.features)
    service = store.get_feature_service("item_behavior__v1")
    assert (service.description, service.owner) == (ITEMS.about, "team:shop")
    assert {entity.name: entity.join_key for entity in store.list_entities()} == {
        "user": "user_id",
        "item": "item_id",
    }
    assert store_behind(DATASET, lake) == [
        f"not online: 2 days of {view}"
        for view in (
            "user_behavior_features_v1", "user_session_features_v1", "item_behavior_features_v1",
        )
    ]  # fmt: skip


def test_a_training_set_of_items_sees_what_was_known_and_online_reads_the_newest(
    lake: Lake,
) -> None:
    apply_registry(DATASET, lake)
    materialize(DATASET, lake)
    ends = midnight(DATASET, DAYS[0])
    times = [ends, ends + 2 * HOUR, ends + 23 * HOUR, ends + 25 * HOUR, ends + 60 * HOUR]
    labels = pd.DataFrame({"item_id": "i0", "event_timestamp": pd.to_datetime(times)})
    store = open_store(lake)
    found = store.get_historical_features(labels, [FEATURE], filter_by_created_timestamp=True)
    values = found.to_df()["item_events_7d"].tolist()
    # The correction of the first day comes when the second is known: that stays the newest.
    assert [None if pd.isna(value) else value for value in values] == [None, 0, 0, 10, 10]
    assert online(lake, ["i0", "i2", "nothing"]) == [10, 12, None]
    assert check_online(DATASET, lake).equal == 2 + 1 + 3
    assert store_behind(DATASET, lake) == []


def test_a_row_of_an_item_that_was_forged_is_found_and_written_again(lake: Lake) -> None:
    apply_registry(DATASET, lake)
    materialize(DATASET, lake)
    forged = behavior_rows(DATASET, DAY, ["i1"], 7_000, table=ITEMS).to_pandas()
    open_store(lake).write_to_online_store("item_behavior_features_v1", forged)
    assert online(lake, ["i1"]) == [7_000]
    report = materialize(DATASET, lake)
    assert report.repaired == {"item_behavior_features_v1": ["i1"]}
    assert "such as of 'i1'" in str(report)
    assert online(lake, ["i1"]) == [11]


def test_figures_tell_how_fresh_a_view_is_whom_it_lacks_and_what_is_empty(lake: Lake) -> None:
    apply_registry(DATASET, lake)
    materialize(DATASET, lake)
    figures = {found.view: found for found in view_figures(DATASET, lake)}
    assert figures.keys() == known_views(lake).keys()
    users, items = figures["user_behavior_features_v1"], figures["item_behavior_features_v1"]
    assert (users.rows, users.active, users.coverage) == (2, 3, pytest.approx(2 / 3))
    assert (items.rows, items.active, items.coverage, items.empty) == (3, 2, 1.0, ())
    assert (items.newest, items.days_behind, items.faults(DATASET)) == (DAY, 0, [])
    assert users.faults(DATASET) == [
        "user_behavior_features_v1 has rows of 66.7% of the 3 users of the last 28 days, "
        "below promotion.min_coverage 95%"
    ]
    after = DAY + dt.timedelta(days=2)
    publish_table(lake, EVENTS.empty_table(), lake.day("events", after))
    nothing = behavior_rows(DATASET, DAY, ["i0"], 1, table=ITEMS)
    place = nothing.schema.get_field_index("item_users_7d")
    nothing = nothing.set_column(place, "item_users_7d", pa.nulls(1, pa.int64()))
    publish_behavior(lake, DAY, nothing, name=ITEMS.name)
    figures = {found.view: found for found in view_figures(DATASET, lake)}
    items = figures["item_behavior_features_v1"]
    assert (items.days_behind, items.empty) == (2, ("item_users_7d",))
    assert items.faults(DATASET)[0].startswith("item_behavior_features_v1 is 2 days behind")
