"""Every online store of Feast works by its YAML alone, and stock Feast reads what ours write."""

from pathlib import Path

import pytest
import yaml

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from features.store import apply_registry, check_online, materialize, promote, repository
from features.store.repository import open_store
from tests.builders.datasets import shop
from tests.builders.store import DAY, HOUR, behavior_rows, publish_behavior, small_lake
from tests.features.store.test_online import edge_case_lake, first_feature, online, tables
from tests.footpath_feast.dict_store import DictOnlineStore
from tests.redis_server import redis_server

MODEL = "ptum_bert4rec_v1"


def configure(monkeypatch: pytest.MonkeyPatch, folder: Path, **online_store: object) -> None:
    """Lets FOOTPATH_ONLINE_STORE name a file with these settings of `online_store`."""
    file = folder / "online_store.yaml"
    file.write_text(yaml.safe_dump(online_store))
    monkeypatch.setenv("FOOTPATH_ONLINE_STORE", str(file))


def served_by_stock_feast(lake: Lake) -> dict[str, list]:
    """Reads a service through the folder that needs no `footpath_feast`."""
    from feast import FeatureStore

    store = FeatureStore(repo_path=str(repository(lake) / "stock"))
    assert type(store._get_provider().online_store).__module__.startswith("feast.")
    service = store.get_feature_service("user_representation__v1")
    rows = [{"user_id": user} for user in ("u1", "u3", "nobody")]
    return store.get_online_features(service, rows).to_dict()


def correct_and_check(lake: Lake) -> None:
    """Publishes a correction with an equal event timestamp and expects it online."""
    everyone = behavior_rows(shop(), DAY, [f"u{k}" for k in range(5)], 30)
    corrected = behavior_rows(shop(), DAY, ["u3"], 99, late=5 * HOUR)
    publish_behavior(lake, DAY, everyone, corrected)
    assert materialize(shop(), lake).views["user_behavior_features_v1"] == 1
    assert online(lake, first_feature(lake, "int64"), ["u2", "u3"]) == [32, 99]
    check = check_online(shop(), lake)
    assert check.sampled == check.equal == 10


def test_feasts_own_sqlite_store_gets_the_same_rows(
    lake_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    dataset, lake = shop(), edge_case_lake(lake_home)
    apply_registry(dataset, lake)
    materialize(dataset, lake)
    ours = tables(repository(lake) / "online.db")
    (repository(lake) / "online.db").unlink()
    configure(monkeypatch, tmp_path, type="sqlite", path="online.db")
    apply_registry(dataset, lake)
    assert materialize(dataset, lake).online_store == "sqlite"
    assert tables(repository(lake) / "online.db") == ours


def test_a_store_of_somebody_elses_gets_rows_corrections_and_its_options(
    lake_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kind = "tests.footpath_feast.dict_store.DictOnlineStore"
    configure(monkeypatch, tmp_path, type=kind, room="a room")
    lake = small_lake(lake_home)
    apply_registry(shop(), lake)
    report = materialize(shop(), lake)
    assert (report.online_store, set(report.views.values())) == (kind, {5})
    assert materialize(shop(), lake).rows == 0
    correct_and_check(lake)
    assert {room for room, _ in DictOnlineStore.rows} == {"a room"}
    DictOnlineStore.rows.clear()  # lost: as if it were a new one
    assert set(materialize(shop(), lake).views.values()) == {5}


@pytest.mark.server
def test_feasts_own_redis_store_gets_corrections_too(
    lake_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with redis_server(tmp_path) as port:
        configure(monkeypatch, tmp_path, type="redis", connection_string=f"127.0.0.1:{port}")
        lake = small_lake(lake_home)
        apply_registry(shop(), lake)
        assert materialize(shop(), lake).online_store == "redis"
        correct_and_check(lake)


def test_stock_feast_reads_the_sqlite_file_that_our_store_wrote(lake_home: Path):
    dataset, lake = shop(), small_lake(lake_home)
    promote(dataset, lake, MODEL)
    materialize(dataset, lake)
    served = served_by_stock_feast(lake)
    assert served[first_feature(lake, "int64")] == [31, 33, None]
    assert served[f"embedding_{MODEL}"] == [[0, 1, 0, 0], [0, 0, 0, 1], None]


@pytest.mark.server
def test_stock_feast_reads_the_redis_hashes_that_our_store_wrote(
    lake_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with redis_server(tmp_path) as port:
        monkeypatch.setenv("FOOTPATH_ONLINE_STORE", f"redis://127.0.0.1:{port}/3")
        dataset, lake = shop(), small_lake(lake_home)
        promote(dataset, lake, MODEL)
        materialize(dataset, lake)
        served = served_by_stock_feast(lake)
        assert served[first_feature(lake, "int64")] == [31, 33, None]
        assert served[f"embedding_{MODEL}"] == [[0, 1, 0, 0], [0, 0, 0, 1], None]
        ours = open_store(lake)
        rows = [{"user_id": user} for user in ("u1", "u3", "nobody")]
        service = ours.get_feature_service("user_representation__v1")
        assert ours.get_online_features(service, rows).to_dict() == served


@pytest.mark.parametrize("content", [None, "", "- type: sqlite\n", "path: online.db\n"])
def test_a_file_without_a_store_is_explained(
    lake_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
):
    file = tmp_path / "store.yaml"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("FOOTPATH_ONLINE_STORE", str(file))
    with pytest.raises(FootpathError, match=r"store.yaml, which must hold what Feast wants"):
        apply_registry(shop(), small_lake(lake_home))
