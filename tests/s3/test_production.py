"""Serving and forgetting where everything is on servers, as in `make production`.

The lake is on S3, Feast's registry and Dagster's runs in PostgreSQL, online rows in Redis.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.lake.layout import Lake, home
from contracts.lake.reading import read_table
from features.reconciliation import reconcile
from features.store import apply_registry, check_online, materialize
from features.store.freshness import store_behind
from features.store.promotions import retire
from features.store.serving.read_counts import recent_reads
from features.store.similar import similar_users
from features.store.view_specs import embedding_view
from orchestration.forgetting.forget import forget
from orchestration.forgetting.ids import Ids
from orchestration.instance import open_instance
from tests.builders import planted, served
from tests.builders.servers import production_servers
from tests.builders.stack import wait_until
from tests.builders.store import point_alias
from tests.builders.traces import traces
from tests.orchestration.http.conftest import client_of
from tests.s3.conftest import Bucket, forget_connections, new_bucket
from tests.s3.server import Server

pytestmark = [pytest.mark.server, pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture
def bucket(moto: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket for the lake, beside PostgreSQL and Redis of the test's own."""
    with production_servers(monkeypatch):
        bucket = new_bucket(moto)
        for name, value in (moto.variables | {"FOOTPATH_LAKE": f"{bucket.url}/lake"}).items():
            monkeypatch.setenv(name, value)
        forget_connections()
        yield bucket
        forget_connections()


@pytest.fixture
def lake(bucket: Bucket) -> Lake:
    return Lake.of("shop")


def test_a_service_is_served_and_a_promotion_seen(lake: Lake):
    served.serve_shop(lake)
    assert check_online(served.SHOP, lake).mismatches == []
    vectors = read_table(lake.day(f"user_embeddings/{served.MODEL}", served.AS_OF)).to_pylist()
    asked = {"dataset": "shop", "service": "user_representation__v1"}
    with client_of() as client:
        users = [row["user_id"] for row in vectors]
        response = client.post("/v1/features", json=asked | {"users": users})
        assert response.status_code == 200, response.text + client.get("/health").text
        found = response.json()
        column = found["names"].index(f"embedding_{served.MODEL}")
        assert [row[column] for row in found["rows"]] == [row["embedding"] for row in vectors]
        near = client.post("/v1/similar", json={"dataset": "shop", "user": "u1", "k": 3}).json()
        expected = [user for user, _ in similar_users(lake, "u1", k=3)]
        assert [each["user"] for each in near["neighbors"]] == expected
        history = {"events": served.histories()["u1"], "as_of": served.CUTOFF.isoformat()}
        encoded = client.post("/v1/encode", json={"dataset": "shop"} | history).json()
        own = next(row["embedding"] for row in vectors if row["user_id"] == "u1")
        assert encoded["vector"] == pytest.approx(own, abs=1e-5)
        scores = {"dataset": "shop", "task": "age", "users": ["u1", "nobody"]}
        scored = client.post("/v1/scores", json=scores).json()["users"]
        assert [user["known"] for user in scored] == [True, False]

        point_alias(lake, "user_representation", [embedding_view(lake, served.MODEL)])
        apply_registry(served.SHOP, lake)
        new = asked | {"service": "user_representation__v2", "users": ["u1"]}
        wait_until(
            lambda: client.post("/v1/features", json=new).status_code == 200,
            lambda: client.get("/health").text,
        )
    assert recent_reads(lake, "user_representation__v1").users >= len(users)
    with pytest.raises(Exception, match="was read"):
        retire(lake, "user_representation__v1", served.AS_OF)


KEY = "a secret of this test"


def test_a_forgotten_user_is_nowhere(
    bucket: Bucket, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FOOTPATH_FORGET_KEY", KEY)
    monkeypatch.setenv("DAGSTER_HOME", str(home() / "dagster"))
    who = planted.PLANTED
    with open_instance() as instance:
        planted.plant(home(), tmp_path / "source", instance)
        assert {place.split("/")[1] for place in copied(bucket, tmp_path / "before", who)} >= {
            "events", "sessions", "landing", "user_embeddings", "users.parquet",
        }  # fmt: skip
        assert online_traces(who)
        rows = planted.other_rows(lake)
        done = forget(planted.SHOP, lake, instance, Ids([who]))
        assert {line.place for line in done.lines} >= {"events", "feature_store/online", "logs"}
        assert {line.place for line in done.lines} >= {"Dagster's databases"}
        for run in instance.get_runs():
            assert who not in repr(run)
            assert who not in repr(instance.all_logs(run.run_id))
    assert copied(bucket, tmp_path / "after", who) == []
    wait_until(lambda: not online_traces(who), lambda: "Redis still holds the user")
    here = [path for path in traces(home(), who) if not path.startswith("production/postgres/")]
    assert here == []
    assert planted.other_rows(lake) == rows
    assert reconcile(planted.SHOP, lake, recount=True).faults == []
    assert store_behind(planted.SHOP, lake) == []
    report = materialize(planted.SHOP, lake, verify_all=True)
    assert (report.rows, report.repaired) == (0, {})
    assert check_online(planted.SHOP, lake).mismatches == []


def copied(bucket: Bucket, folder: Path, who: str) -> list[str]:
    """Objects of the bucket that hold a user, by a copy of it."""
    client = bucket.server.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name)
    for found in (each for page in pages for each in page.get("Contents", [])):
        path = folder / found["Key"].removeprefix("lake/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(client.get_object(Bucket=bucket.name, Key=found["Key"])["Body"].read())
    return traces(folder, who)


def online_traces(who: str) -> list[str]:
    """What of Redis names a user: keys, and files of the server."""
    import redis

    client = redis.Redis.from_url(
        os.environ["FOOTPATH_ONLINE_STORE"], password=os.environ["FOOTPATH_REDIS_PASSWORD"]
    )
    keys = [repr(key) for key in client.scan_iter() if who.encode() in key]
    return keys + traces(home() / "production" / "redis", who)
