"""On Redis: Feast's own bytes, and corrections that Feast's own writer would drop."""

import datetime as dt
from pathlib import Path

import pytest

from contracts.base.errors import FootpathError
from features.store import apply_registry, check_online, materialize, promote, repository
from features.store.online_writer import OnlineWriter
from features.store.repository import open_store
from features.store.view_specs import known_views
from tests.builders.datasets import shop
from tests.builders.stack import wait_until
from tests.builders.store import DAY, HOUR, behavior_rows, midnight, publish_behavior, small_lake
from tests.builders.traces import traces
from tests.features.store.test_online import edge_case_lake, first_feature, online

redis = pytest.importorskip("redis")

pytestmark = pytest.mark.server


@pytest.fixture
def client(redis_port: int, monkeypatch: pytest.MonkeyPatch) -> "redis.Redis":
    """An empty database, which FOOTPATH_ONLINE_STORE points at."""
    monkeypatch.setenv("FOOTPATH_ONLINE_STORE", f"redis://127.0.0.1:{redis_port}/0")
    client = redis.Redis(port=redis_port)
    client.flushall()
    return client


def hashes(client: "redis.Redis") -> dict[bytes, dict[bytes, bytes]]:
    return {key: client.hgetall(key) for key in client.scan_iter(b"\x01*user_id*")}


def test_redis_holds_byte_for_byte_what_feast_itself_would_write(
    lake_home: Path, client: "redis.Redis"
):
    dataset, lake = shop(), edge_case_lake(lake_home)
    apply_registry(dataset, lake)
    start = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
    open_store(lake).materialize(start, midnight(dataset, DAY))
    stock = hashes(client)
    client.flushall()

    materialize(dataset, lake)

    assert len(stock) == 500
    assert hashes(client) == stock


def test_what_redis_serves_equals_the_offline_store(lake_home: Path, client: "redis.Redis"):
    dataset, lake = shop(), small_lake(lake_home)
    promote(dataset, lake, "ptum_bert4rec_v1")
    report = materialize(dataset, lake)
    check = check_online(dataset, lake)
    assert report.online_store == "footpath_feast.redis.RedisOnlineStore"
    assert (check.sampled, check.equal) == (10, 10)


def test_a_correction_with_an_equal_event_timestamp_reaches_redis(
    lake_home: Path, client: "redis.Redis"
):
    dataset, lake = shop(), small_lake(lake_home)
    apply_registry(dataset, lake)
    materialize(dataset, lake)
    everyone = behavior_rows(dataset, DAY, [f"u{k}" for k in range(5)], 30)
    corrected = behavior_rows(dataset, DAY, ["u3"], 99, late=5 * HOUR)
    publish_behavior(lake, DAY, everyone, corrected)

    report = materialize(dataset, lake)

    assert report.views["user_behavior_features_v1"] == 1
    assert online(lake, first_feature(lake, "int64"), ["u2", "u3"]) == [32, 99]


def test_a_flushed_server_is_filled_again(lake_home: Path, client: "redis.Redis"):
    dataset, lake = shop(), small_lake(lake_home)
    apply_registry(dataset, lake)
    materialize(dataset, lake)
    full = hashes(client)
    client.flushall()
    assert set(materialize(dataset, lake).views.values()) == {5}
    assert hashes(client) == full


def test_moving_from_sqlite_to_redis_writes_everything(
    lake_home: Path, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
):
    dataset, lake = shop(), small_lake(lake_home)
    with monkeypatch.context() as context:
        context.delenv("FOOTPATH_ONLINE_STORE")
        apply_registry(dataset, lake)
        assert "sqlite" in materialize(dataset, lake).online_store
    apply_registry(dataset, lake)
    report = materialize(dataset, lake)
    assert "redis" in report.online_store
    assert set(report.views.values()) == {5}


def test_a_store_whose_keys_expire_is_refused(lake_home: Path, client: "redis.Redis"):
    dataset, lake = shop(), small_lake(lake_home)
    apply_registry(dataset, lake)
    config = repository(lake) / "feature_store.yaml"
    config.write_text(
        config.read_text().replace("online_store:", "online_store:\n  key_ttl_seconds: 9")
    )
    with pytest.raises(FootpathError, match="key_ttl_seconds"):
        materialize(dataset, lake)


def test_a_refused_write_leaves_the_connection_usable(lake_home: Path, client: "redis.Redis"):
    dataset, lake = shop(), small_lake(lake_home)
    apply_registry(dataset, lake)
    materialize(dataset, lake)
    publish_behavior(lake, DAY, behavior_rows(dataset, DAY, ["u1", "u2"], 70, late=5 * HOUR))
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(FootpathError, match=r"refused: .*maxmemory"):
            materialize(dataset, lake)
    finally:
        client.config_set("maxmemory", "0")
    assert materialize(dataset, lake).views["user_behavior_features_v1"] == 2
    assert online(lake, first_feature(lake, "int64"), ["u1", "u2"]) == [70, 71]


def test_a_server_that_is_away_is_named(lake_home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FOOTPATH_ONLINE_STORE", "redis://127.0.0.1:1")
    dataset, lake = shop(), small_lake(lake_home)
    apply_registry(dataset, lake)
    with pytest.raises(FootpathError, match=r"feature_store.yaml \(.*\) refused: .*127.0.0.1:1"):
        materialize(dataset, lake)


def test_a_user_who_is_deleted_has_no_key_and_no_byte_in_the_servers_files(
    lake_home: Path, client: "redis.Redis"
):
    dataset, lake = shop(), small_lake(lake_home)
    client.config_set("appendonly", "yes")
    promote(dataset, lake, "ptum_bert4rec_v1")
    materialize(dataset, lake)
    before, folder = hashes(client), Path(client.config_get("dir")["dir"])
    assert traces(folder, "u1shop")  # the end of a key
    writer = OnlineWriter(lake, list(known_views(lake).values()))
    assert (writer.delete(["u1", "nobody"]), writer.delete(["u1"])) == (1, 0)
    assert len(hashes(client)) == len(before) - 1
    assert hashes(client).items() <= before.items()
    wait_until(lambda: not traces(folder, "u1shop"), lambda: "the file holds the key")
    client.config_set("appendonly", "no")
