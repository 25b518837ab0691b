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
from contracts.lake.versions import CONFIG, all_versions, allocate_for_task, trial_folder
from contracts.recipes.checkpoint import CheckpointFacts, TaskFacts
from contracts.recipes.recipe import Recipe
from features.store import promote
from features.store.freshness import event_histories, feature_histories
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
        allocate_for_task(lake, base, "gender", trial)
    publish_json(lake, task_config("tuned"), trial_folder(lake, "tuned") / CONFIG)
    return lake


def task_config(identity: str, **task: object) -> dict:
    """What is known of a model of a task; fine-tuned, where nothing else is said."""
    told = {"protocol": "finetuned", "finetuning": {}} | task
    facts = TaskFacts.model_validate(
        {"spec": {"name": "gender"}, "classes": ("f", "m"), "target_center": 0.0,
         "target_spread": 1.0, "validation": {"metric": "auc", "value": 0.5}} | told
    )  # fmt: skip
    found = CheckpointFacts(
        recipe=Recipe.named("byb_bag", {}), seed=0, sizes={}, train_cutoff="2026-02-01T00:00:00Z",
        vocabulary_hash="v", data_fingerprint="d", labels_fingerprint="", identity=identity,
        code_version="c", created="2026-02-01T00:00:00Z", weights_hash="w", task=facts,
    )  # fmt: skip
    return found.model_dump(mode="json")


SERVED = ["byb_bag_v1", "coles_bag_v2", "byb_bag_v1_gender", "coles_bag_v1"]


TABLES = ("events", "user_behavior_features")


def publish_events(lake: Lake, content: str, *days: dt.date, tables=TABLES) -> None:
    """Publishes days of events and features that are empty but for what they were built from."""
    for day in days:
        built_from = {BUILT_FROM: json.dumps({"fragments": {"file": content}}).encode()}
        for table in tables:
            nothing = pa.table({"user_id": pa.array([], pa.string())})
            nothing = nothing.replace_schema_metadata(built_from)
            publish_table(lake, nothing, lake.day(table, day))


def embed_now(lake: Lake, version: str, *days: dt.date, reads_features: bool = False) -> None:
    """Embeds days from the events, and features, that there are."""
    histories = event_histories(lake)
    if reads_features:
        histories = feature_histories(lake, histories)
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


def test_a_profile_is_of_the_features_of_its_days_too(lake):
    profile = {"view": "user_behavior_features_v1", "features": ("events_7d",), "trees": 5}
    told = {"protocol": "frozen", "finetuning": None, "profile": profile | {"members": ()}}
    publish_json(lake, task_config("head", **told), trial_folder(lake, "tuned") / CONFIG)
    publish_events(lake, "one", *DAYS)
    name = "byb_bag_v1_gender"
    for version in SERVED:
        embed_now(lake, version, *DAYS, reads_features=version == name)
    assert due(lake) == {}
    publish_events(lake, "two", DAYS[1], tables=TABLES[1:])
    assert due(lake) == {f"{day}|{name}": "stale" for day in DAYS[1:]}
    embed_now(lake, name, *DAYS[1:], reads_features=True)
    assert due(lake) == {}
    publish_events(lake, "two", DAYS[2], tables=TABLES[:1])
    assert due(lake) == {f"{DAYS[2]}|{version}": "stale" for version in SERVED}
    later = DAYS[2] + dt.timedelta(days=1)
    publish_events(lake, "three", later, tables=TABLES[:1])
    assert str(later) not in {cell.partition("|")[0] for cell in due(lake)}  # no features yet
