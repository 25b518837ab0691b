"""Every model version that somebody reads is embedded with each day, and each day of a rebuild."""

import datetime as dt
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json
from contracts.lake.versions import CONFIG, all_versions, allocate_finetuned, trial_folder
from features.store import promote
from features.store.similar import similar_users
from orchestration.definitions import dataset_definitions
from orchestration.promotion import versions_to_serve
from orchestration.rebuild import stale_embeddings
from orchestration.tags import PARTITION, REBUILD, range_tags
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


def requested(tags: dict[str, str]) -> list[str]:
    """Partitions that are asked for after a daily run with these tags."""
    definitions = dg.Definitions.merge(
        dataset_definitions("shop"),
        dg.Definitions(resources={"pipes": dg.PipesSubprocessClient(), "progress": None}),
    )
    sensor = definitions.resolve_sensor_def("shop_embed_finished_days")
    with dg.DagsterInstance.ephemeral() as instance:
        run = dg.DagsterRun(job_name="shop_daily", tags=tags)
        event = dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, "shop_daily")
        context = dg.build_run_status_sensor_context(sensor.name, event, instance, run)
        requests = list(sensor(context))
    assert len({request.run_key for request in requests}) == len(requests)
    return [request.partition_key for request in requests]


def test_served_are_the_newest_versions_and_all_that_a_service_names(lake):
    assert sorted(versions_to_serve(SHOP, lake)) == sorted(SERVED)


def test_a_version_whose_model_is_gone_is_left_out(lake):
    (trial_folder(lake, "trial-coles_bag_v1") / CONFIG).unlink()
    assert "coles_bag_v1" not in versions_to_serve(SHOP, lake)


@pytest.mark.parametrize("tags", [{PARTITION: str(DAYS[1])}, range_tags(DAYS[0], DAYS[1])])
def test_the_last_day_of_a_daily_run_is_embedded_by_every_version_that_is_served(lake, tags):
    assert sorted(requested(tags)) == sorted(f"{DAYS[1]}|{version}" for version in SERVED)


def test_a_rebuild_embeds_again_what_is_published_from_its_first_day_on(lake):
    embed(lake, "byb_bag_v1_gender", DAYS[0], DAYS[2])
    expected = [
        f"{DAYS[1]}|coles_bag_v1", f"{DAYS[2]}|byb_bag_v1_gender", f"{DAYS[2]}|coles_bag_v1",
    ]  # fmt: skip
    assert sorted(stale_embeddings(SHOP, lake, DAYS[1])) == expected
    assert sorted(requested({REBUILD: "key"} | range_tags(DAYS[1], DAYS[2]))) == expected


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
