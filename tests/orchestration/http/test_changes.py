"""The service sees what changes beneath it, and outlives what breaks."""

import datetime as dt
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from contracts.base.clock import now
from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from features.store import apply_registry, materialize, repository
from features.store.promotions import retire
from features.store.services import known_services
from features.store.serving.read_counts import ReadCounter, recent_reads
from features.store.view_specs import embedding_view, known_views
from tests.builders.served import MODEL, SHOP
from tests.builders.store import point_alias
from tests.orchestration.http.conftest import client_of
from tests.redis_server import redis_server

SERVICE = "user_representation__v1"
FEATURES = {"dataset": "shop", "service": SERVICE, "users": ["u1"]}


def until(is_so: Callable[[], bool]) -> None:
    for _ in range(200):
        if is_so():
            return
        time.sleep(0.05)
    raise AssertionError("it never was")


def read(client: TestClient, **changes: object) -> int:
    return client.post("/v1/features", json=FEATURES | changes).status_code


def test_a_promotion_is_seen_without_a_restart(client, lake: Lake):
    assert read(client, service="user_representation__v2") == 404
    point_alias(lake, "user_representation", [embedding_view(lake, MODEL)])
    apply_registry(SHOP, lake)

    def alias() -> str:
        found = client.get("/v1/services").json()["datasets"]["shop"]
        return found["aliases"]["user_representation"]

    until(lambda: alias() == "user_representation__v2")
    assert read(client, service="user_representation__v2") == 200
    assert read(client) == 200  # the one before goes on


def test_a_locked_sqlite_file_is_503_and_passes_by_itself(client, lake: Lake):
    assert read(client) == 200
    writer = sqlite3.connect(repository(lake) / "online.db", isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    response = client.post("/v1/features", json=FEATURES)
    assert response.status_code == 503
    said = "the online store of shop does not answer (OperationalError): try again"
    assert response.json() == {"error": said}
    writer.execute("ROLLBACK")
    assert read(client) == 200


def test_a_file_that_was_restored_is_opened_anew(client, lake: Lake):
    path = repository(lake) / "online.db"
    assert read(client) == 200
    whole = path.read_bytes()
    path.unlink()
    until(lambda: read(client) == 503)
    path.unlink(missing_ok=True)
    path.write_bytes(whole)
    until(lambda: read(client) == 200)


@pytest.mark.server
def test_a_dead_redis_is_503_and_passes_by_itself(
    home: Path, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "redis").mkdir()
    options = ("--appendonly", "yes")
    with redis_server(tmp_path / "redis", *options) as port:
        monkeypatch.setenv("FOOTPATH_ONLINE_STORE", f"redis://127.0.0.1:{port}/0")
        apply_registry(SHOP, lake)
        materialize(SHOP, lake)
        service = client_of()
        client = service.__enter__()
        before = client.post("/v1/features", json=FEATURES)
        assert before.status_code == 200
    begun = time.monotonic()
    response = client.post("/v1/features", json=FEATURES)
    assert (response.status_code, time.monotonic() - begun < 5) == (503, True)
    assert "the online store of shop does not answer" in response.json()["error"]
    assert client.get("/health").status_code == 200
    monkeypatch.setattr("tests.redis_server.free_port", lambda: port)
    with redis_server(tmp_path / "redis", *options):
        until(lambda: client.post("/v1/features", json=FEATURES).json() == before.json())
        service.__exit__(None, None, None)


def test_a_data_set_without_a_registry_is_503_until_it_has_one(lake_home: Path, shop_home: Path):
    with client_of() as client:
        assert client.post("/v1/features", json=FEATURES).status_code == 503
        assert client.get("/health").status_code == 503
        shutil.copytree(shop_home, lake_home, dirs_exist_ok=True)
        until(lambda: read(client) == 200)
        until(lambda: client.get("/health").json() == {"status": "ok", "faults": []})


def test_reads_are_counted_and_a_service_that_is_read_is_not_retired(home: Path, lake: Lake):
    with client_of() as client:
        assert read(client, users=["u1", "u2", "u3"]) == 200
        similar = {"dataset": "shop", "user": "u1"}
        assert client.post("/v1/similar", json=similar).status_code == 200
        assert read(client, service="nothing__v1") == 404
        until(lambda: recent_reads(lake, SERVICE).requests == 2)  # while it runs
        assert read(client) == 200
    reads = recent_reads(lake, SERVICE)  # and in the end
    assert (reads.requests, reads.users) == (3, 5)
    assert now() - dt.datetime.fromisoformat(reads.last) < dt.timedelta(minutes=5)
    point_alias(lake, "user_representation", [embedding_view(lake, MODEL)])
    day = now().date()
    with pytest.raises(FootpathError, match=r"was read 3 times in the last 7 days, last 20"):
        retire(lake, SERVICE, day)
    retire(lake, SERVICE, day, although_read=True)
    assert known_services(lake).aliases["user_representation"] == "user_representation__v2"


def test_reads_of_longer_ago_do_not_keep_a_service(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    point_alias(lake, "user_representation", [known_views(lake)["user_behavior_features_v1"]])
    for days, still in ((8, False), (7, True)):
        monkeypatch.setenv(
            "FOOTPATH_NOW", (dt.datetime.now(dt.UTC) - dt.timedelta(days)).isoformat()
        )
        counter = ReadCounter(lake)
        counter.note(SERVICE, 1)
        counter.flush()
        monkeypatch.delenv("FOOTPATH_NOW")
        assert bool(recent_reads(lake, SERVICE).requests) == still
        if not still:
            retire(lake, SERVICE, now().date())
