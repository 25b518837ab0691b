"""What is registered under a versioned name never changes, and nothing is taken away."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from features.store import (
    apply_registry,
    check_online,
    known_services,
    materialize,
    promote,
    promoted_version,
    repository,
)
from features.store.repository import open_store
from tests.builders.datasets import shop
from tests.builders.store import publish_model, small_lake
from tests.conftest import REPOSITORY

TWO = ("ptum_bert4rec_v1", "none_bert4rec_v1")


def contents(lake: Lake, service: str) -> dict[str, list[str]]:
    """Returns what Feast's registry says a service gives."""
    projections = open_store(lake).get_feature_service(service).feature_view_projections
    return {p.name: [feature.name for feature in p.features] for p in projections}


def test_importing_the_store_loads_nothing_heavy():
    code = (
        "import sys, features.store.similar, features.store\n"
        "print({'feast', 'pandas', 'ibis', 'torch', 'redis'} & sys.modules.keys())"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "set()"


def test_applying_registers_every_model_version_and_the_behavior_service(lake_home: Path):
    report = apply_registry(shop(), small_lake(lake_home, TWO))
    assert report.views == [
        "user_behavior_features_v1",
        "user_embeddings_none_bert4rec_v1",
        "user_embeddings_ptum_bert4rec_v1",
    ]
    assert report.services == ["user_behavior__v1"]
    assert report.aliases == {"user_behavior": "user_behavior__v1"}
    assert report.registry == "file"
    assert report.online_store == "footpath_feast.sqlite.SqliteOnlineStore"


def test_every_view_and_service_says_what_it_is_and_whom_to_ask(lake_home: Path):
    dataset = shop().model_copy(update={"owner": "data@example.com"})
    lake = small_lake(lake_home)
    promote(dataset, lake, "ptum_bert4rec_v1")
    store = open_store(lake)
    things = [*store.list_feature_views(), *store.list_feature_services()]
    assert {thing.owner for thing in things} == {"data@example.com"}
    told = {thing.name: thing.description for thing in things}
    assert (
        "by ptum_bert4rec_v1, which has seen events until 2026-01-05T23"
        in told["user_embeddings_ptum_bert4rec_v1"]
    )
    assert told["user_representation__v1"].startswith("behavior of a user up to the end of a day")
    assert len(told) == 3


def test_everything_works_before_there_is_any_data(lake_home: Path):
    lake = Lake(lake_home / "lake" / "shop")
    report = apply_registry(shop(), lake)
    assert report.views == ["user_behavior_features_v1"]
    assert set(materialize(shop(), lake).views.values()) == {0}
    assert check_online(shop(), lake).sampled == 0


def test_applying_twice_changes_nothing(lake_home: Path):
    dataset, lake = shop(), small_lake(lake_home)
    first = apply_registry(dataset, lake)
    ledgers = [(repository(lake) / f).read_bytes() for f in ("views.json", "services.json")]
    assert apply_registry(dataset, lake) == first
    assert ledgers == [(repository(lake) / f).read_bytes() for f in ("views.json", "services.json")]


def test_another_list_of_features_is_another_version_and_the_old_service_stays(lake_home: Path):
    lake = small_lake(lake_home)
    apply_registry(shop([1, 7, 30]), lake)
    before = contents(lake, "user_behavior__v1")

    report = apply_registry(shop([1, 7]), lake)

    assert report.views[:2] == ["user_behavior_features_v1", "user_behavior_features_v2"]
    assert report.aliases["user_behavior"] == "user_behavior__v2"
    assert contents(lake, "user_behavior__v1") == before
    assert set(contents(lake, "user_behavior__v2")) == {"user_behavior_features_v2"}


def test_going_back_to_an_old_list_of_features_gives_its_version_back(lake_home: Path):
    lake = small_lake(lake_home)
    apply_registry(shop([1, 7, 30]), lake)
    apply_registry(shop([1, 7]), lake)
    report = apply_registry(shop([1, 7, 30]), lake)
    assert report.aliases["user_behavior"] == "user_behavior__v1"
    assert len(report.services) == 2


def test_promotion_moves_the_alias_and_keeps_the_service_before(lake_home: Path):
    dataset, lake = shop(), small_lake(lake_home, TWO)
    apply_registry(dataset, lake)
    assert promote(dataset, lake, "ptum_bert4rec_v1") == "user_representation__v1"
    first = contents(lake, "user_representation__v1")
    assert promote(dataset, lake, "none_bert4rec_v1") == "user_representation__v2"

    assert promoted_version(lake) == "none_bert4rec_v1"
    assert contents(lake, "user_representation__v1") == first
    assert first["user_embeddings_ptum_bert4rec_v1"] == ["embedding_ptum_bert4rec_v1"]
    assert open_store(lake).get_project("shop").tags == known_services(lake).aliases


def test_promoting_the_same_version_again_gives_the_same_service(lake_home: Path):
    dataset, lake = shop(), small_lake(lake_home, TWO)
    names = [promote(dataset, lake, version) for version in (TWO[0], TWO[0], TWO[1], TWO[0])]
    assert names == [f"user_representation__v{n}" for n in (1, 1, 2, 1)]
    assert known_services(lake).aliases["user_representation"] == "user_representation__v1"


def test_a_version_without_embeddings_cannot_be_promoted(lake_home: Path):
    lake = small_lake(lake_home)
    publish_model(lake, "bag_v1")
    with pytest.raises(FootpathError, match="'bag_v1' has no embeddings"):
        promote(shop(), lake, "bag_v1")
    assert not (repository(lake) / "services.json").exists()


def test_a_model_trained_on_other_data_under_the_same_version_is_refused(lake_home: Path):
    dataset, lake = shop(), small_lake(lake_home)
    publish_model(lake, "ptum_bert4rec_v1", data_fingerprint="aaa")
    apply_registry(dataset, lake)
    publish_model(lake, "ptum_bert4rec_v1", data_fingerprint="bbb")
    with pytest.raises(FootpathError, match=r"data_fingerprint = aaa .* train the model as a new"):
        apply_registry(dataset, lake)


def test_a_registry_that_disagrees_with_the_ledgers_is_left_alone(lake_home: Path):
    lake = small_lake(lake_home)
    apply_registry(shop([1, 7, 30]), lake)
    registered = (repository(lake) / "registry.db").read_bytes()
    (repository(lake) / "views.json").unlink()
    (repository(lake) / "services.json").unlink()
    with pytest.raises(FootpathError, match="user_behavior_features_v1 is in the registry"):
        apply_registry(shop([1, 7]), lake)
    assert (repository(lake) / "registry.db").read_bytes() == registered


def test_a_lost_registry_is_filled_again_from_the_ledgers(lake_home: Path):
    dataset, lake = shop(), small_lake(lake_home, TWO)
    apply_registry(shop([1, 7]), lake)
    promote(dataset, lake, TWO[0])
    before = {name: contents(lake, name) for name in known_services(lake).services}
    (repository(lake) / "registry.db").unlink()
    apply_registry(dataset, lake)
    assert {name: contents(lake, name) for name in before} == before


def test_a_name_that_cannot_be_a_feature_is_refused(lake_home: Path):
    lake = small_lake(lake_home, ("Ptum-BERT_v1",))
    with pytest.raises(FootpathError, match="'Ptum-BERT_v1' cannot name a feature"):
        apply_registry(shop(), lake)


def test_the_repository_names_no_absolute_path_and_no_secret(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FOOTPATH_REDIS_PASSWORD", "hunter2")
    lake = small_lake(lake_home)
    apply_registry(shop(), lake)
    for file in ("feature_store.yaml", "stock/feature_store.yaml"):
        written = (repository(lake) / file).read_text()
        assert str(lake_home) not in written
        assert "hunter2" not in written


def test_the_written_profile_is_the_one_in_deploy(lake_home: Path, monkeypatch: pytest.MonkeyPatch):
    from features.store.repository import write_config

    monkeypatch.setenv("FOOTPATH_ONLINE_STORE", "rediss://feast@cache.example/3")
    monkeypatch.setenv("FOOTPATH_REGISTRY", "postgresql://feast:secret@db.example/feast")
    monkeypatch.setenv("FOOTPATH_REDIS_PASSWORD", "hunter2")
    monkeypatch.setenv("FOOTPATH_PROJECT", "shop")
    monkeypatch.setenv("FOOTPATH_REDIS", "cache.example:6379,db=3,ssl=true,username=feast")
    lake = Lake(lake_home / "lake" / "shop")
    write_config(shop(), lake)
    written = (repository(lake) / "feature_store.yaml").read_text()
    deployed = (REPOSITORY / "deploy" / "feature_store.redis.yaml").read_text()

    assert "secret" not in written
    assert "hunter2" not in written
    expanded = [yaml.safe_load(os.path.expandvars(text)) for text in (written, deployed)]
    assert expanded[0] == expanded[1]
    assert expanded[0]["online_store"]["connection_string"].endswith("password=hunter2")


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("FOOTPATH_ONLINE_STORE", "redis://:hunter2@host:6379", "set FOOTPATH_REDIS_PASSWORD"),
        (
            "FOOTPATH_ONLINE_STORE",
            "redis://host:6379/0?ssl_cert_reqs=none",
            "has more than redis://",
        ),
        ("FOOTPATH_ONLINE_STORE", "redis://host/0,ssl=false", "has more than redis://"),
        ("FOOTPATH_ONLINE_STORE", "redis://host/0\n  type: evil.Store", "has more than redis://"),
        ("FOOTPATH_ONLINE_STORE", "host:6379", "must be a URL such as redis://host:6379/0"),
        ("FOOTPATH_REGISTRY", "mysql://host/feast", "must be a URL such as postgresql://"),
    ],
)
def test_a_wrong_setting_is_explained(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, sentence: str
):
    monkeypatch.setenv(variable, value)
    with pytest.raises(FootpathError, match=sentence):
        apply_registry(shop(), Lake(lake_home / "lake" / "shop"))


def test_the_order_of_the_feature_list_is_no_new_version(lake_home: Path):
    dataset, lake = shop(), small_lake(lake_home)
    apply_registry(dataset, lake)
    search, view, *rest = dataset.actions
    report = apply_registry(dataset.model_copy(update={"actions": [view, search, *rest]}), lake)
    assert report.services == ["user_behavior__v1"]


def test_the_service_ledger_is_plain_json_for_anyone(lake_home: Path):
    dataset, lake = shop(), small_lake(lake_home)
    name = promote(dataset, lake, "ptum_bert4rec_v1")
    ledger = json.loads((repository(lake) / "services.json").read_text())
    assert ledger["aliases"] == {"user_representation": name}
    assert ledger["services"][name]["tags"]["model_version"] == "ptum_bert4rec_v1"
