"""Every model version that somebody reads is embedded with each day, and each day of a rebuild."""

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json, publish_table
from contracts.lake.schemas import BUILT_FROM
from contracts.lake.versions import CONFIG, all_versions, allocate_finetuned, trial_folder
from features.store import promote
from features.store.freshness import event_histories
from features.store.similar import similar_users
from orchestration.due_cells import due_cells
from orchestration.promotion.candidates import versions_to_serve
from tests.builders.datasets import shop
from tests.builders.store import DAY, publish_embeddings, publish_model

USERS = ["ann", "bob", "cem"]
DAYS = [DAY + dt.timedelta(days=n) for n in range(3)]
SHOP = shop()


def embed(lake: Lake, version: str, *days: dt.date) -> None:
    for day in days:
        publish_embeddings(lake, SHOP, version, day, USERS, np.eye(3, 4))


@pytest.fixture
def lake(lake_home: Path) -> Lake:
    """Two versions of a recipe, the first promoted once, another recipe, and a task model."""
    lake = Lake.of("shop")
    for version in ("coles_bag_v1", "coles_bag_v2", "byb_bag_v1"):
        publish_model(lake, version)
    embed(lake, "coles_bag_v1", *DAYS)
    promote(SHOP, lake, "coles_bag_v1")
    base = next(v for v in all_versions(lake) if v.version == "byb_bag_v1")
    for trial in ("tuned", "unfinished"):
        allocate_finetuned(lake, base, "gender", trial)
    publish_json(lake, {"dim": 4}, trial_folder(lake, "tuned") / CONFIG)
    return lake


SERVED = ["byb_bag_v1", "coles_bag_v2", "byb_bag_v1_gender", "coles_bag_v1"]


def publish_events(lake: Lake, content: str, *days: dt.date) -> None:
    """Publishes days of events and features that are empty but for what they were built from."""
    for day in days:
        built_from = {BUILT_FROM: json.dumps({"fragments": {"file": content}}).encode()}
        for table in ("events", "user_behavior_features"):
            nothing = pa.table({"user_id": pa.array([], pa.string())})
            nothing = nothing.replace_schema_metadata(built_from)
            publish_table(lake, nothing, lake.day(table, day))


def embed_now(lake: Lake, version: str, *days: dt.date) -> None:
    """Embeds days from the events that there are."""
    histories = event_histories(lake)
    embed(lake, version, *days)
    for day in days:
        rows = pq.read_table(lake.day(f"user_embeddings/{version}", day))
        rows = rows.replace_schema_metadata({BUILT_FROM: histories[day].encode()})
        publish_table(lake, rows, lake.day(f"user_embeddings/{version}", day))


def due(lake: Lake) -> dict[str, str]:
    """By cell, whether it is new or stale."""
    return {f"{day}|{v}": why for (day, v), (why, _) in due_cells(SHOP, lake).items()}


def test_served_are_the_newest_versions_and_all_that_a_service_names(lake):
    assert sorted(versions_to_serve(SHOP, lake)) == sorted(SERVED)


def test_a_version_whose_model_is_gone_is_left_out(lake):
    (trial_folder(lake, "trial-coles_bag_v1") / CONFIG).unlink()
    assert "coles_bag_v1" not in versions_to_serve(SHOP, lake)


def test_the_last_day_is_embedded_by_every_version_that_is_served(lake):
    publish_events(lake, "one", *DAYS)
    embed_now(lake, "coles_bag_v1", *DAYS)
    others = [version for version in SERVED if version != "coles_bag_v1"]
    assert due(lake) == {f"{DAYS[2]}|{version}": "new" for version in others}


def test_a_day_that_was_missed_is_embedded_and_history_goes_back_as_the_yaml_says(lake):
    publish_events(lake, "one", *DAYS)
    for day in (DAYS[0], DAYS[2]):
        lake.day("user_embeddings/coles_bag_v1", day).unlink()
    embed_now(lake, "coles_bag_v1", DAYS[1])  # it is promoted
    embed_now(lake, "byb_bag_v1", DAYS[0], DAYS[2])
    found = due(lake)
    assert found[f"{DAYS[1]}|byb_bag_v1"] == "new"
    assert found[f"{DAYS[0]}|coles_bag_v1"] == found[f"{DAYS[2]}|coles_bag_v1"] == "new"


def test_embeddings_of_events_that_have_changed_since_are_made_again(lake):
    publish_events(lake, "one", *DAYS)
    for version in SERVED:
        embed_now(lake, version, *DAYS)
    assert due(lake) == {}
    publish_events(lake, "two", DAYS[1])
    later = [f"{day}|{version}" for day in DAYS[1:] for version in SERVED]
    assert due(lake) == dict.fromkeys(later, "stale")


def test_what_is_promoted_by_hand_can_be_asked_for_similar_users_at_once(lake):
    embed(lake, "byb_bag_v1", DAY)
    with pytest.raises(FootpathError, match="no index of similar users for byb_bag_v1"):
        similar_users(lake, "ann", version="byb_bag_v1")
    promote(SHOP, lake, "byb_bag_v1")
    assert similar_users(lake, "ann") == [("bob", 0.0), ("cem", 0.0)]
    # Going back finds the vectors of today, not those of when it was left.
    publish_embeddings(lake, SHOP, "coles_bag_v1", DAYS[2], ["dan"], np.ones((1, 4)))
    promote(SHOP, lake, "coles_bag_v1")
    assert "dan" in dict(similar_users(lake, "ann"))
