"""`online_write_arrow` writes what Feast's own rows and writer would, for every type and option."""

import datetime as dt
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from feast import Entity, FeatureView, Field, FileSource, RepoConfig
from feast.infra.online_stores.helpers import get_online_store_from_config
from feast.types import Array, Bool, Float32, Float64, Int32, Int64, String
from feast.value_type import ValueType

from footpath_feast.feast_private import write_rows
from tests.redis_server import free_port, redis_server

COLUMNS = {
    "count": (Int64, pa.array([1, None, -(2**40)], pa.int64())),
    "value": (Float64, pa.array([0.1, float("nan"), None])),
    "word": (String, pa.array(["é", None, ""])),
    "small": (Int32, pa.array([7, 8, 9], pa.int32())),
    "flag": (Bool, pa.array([True, None, False])),
    "single": (Float32, pa.array([0.1, None, 3.0], pa.float32())),
    "words": (Array(String), pa.array([["a"], ["b", "c"], ["d"]])),
    "vector": (Array(Float32), pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.float32(), 2))),
    "loose": (Array(Float32), pa.array([[1.5, 2], [3, 4], [5, 6]], pa.list_(pa.float32()))),
}
INSTANT = dt.datetime(2026, 1, 9, 23, 0, 0, 250_000, dt.UTC)


def view(created: str = "created", without: str | None = None) -> FeatureView:
    """A view keyed by user and shop, with a feature of every type but those of one column."""
    entities = [
        Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING),
        Entity(name="shop", join_keys=["shop_id"], value_type=ValueType.INT64),
    ]
    schema = [Field(name="user_id", dtype=String), Field(name="shop_id", dtype=Int64)]
    schema += [
        Field(name=name, dtype=dtype, vector_index=name == "vector", vector_length=2)
        for name, (dtype, _) in COLUMNS.items()
        if name != without
    ]
    source = FileSource(path="rows.parquet", timestamp_field="at", created_timestamp_column=created)
    return FeatureView(name="wide", source=source, schema=schema, entities=entities)


def batch() -> pa.RecordBatch:
    at = pa.array([INSTANT, INSTANT, INSTANT + dt.timedelta(1)], pa.timestamp("us", tz="UTC"))
    head = {"user_id": ["a", "b", "ü"], "shop_id": pa.array([1, -2, 3], pa.int64())}
    head |= {"at": at, "created": at}
    return pa.record_batch(head | {name: values for name, (_, values) in COLUMNS.items()})


def config(folder: Path, **online_store: object) -> RepoConfig:
    return RepoConfig(
        project="team",
        provider="local",
        registry=str(folder / "registry.db"),
        online_store=online_store,
        entity_key_serialization_version=3,
        repo_path=folder,
    )


@pytest.mark.parametrize("created", ["created", ""])
@pytest.mark.parametrize("option", [None, "vector_enabled", "enable_openai_compatible_store"])
def test_sqlite_holds_what_feasts_rows_would_be(tmp_path: Path, created: str, option: str | None):
    # With vectors enabled, Feast's own writer takes no list of texts.
    table = view(created, without="words" if option == "vector_enabled" else None)
    tables = {}
    for name in ("rows", "arrow"):
        settings = config(
            tmp_path,
            type="footpath_feast.sqlite.SqliteOnlineStore",
            path=str(tmp_path / f"{name}.db"),
            **{option: True} if option else {},
        )
        store = get_online_store_from_config(settings.online_store)
        store.update(settings, [], [table], [], [], partial=True)
        if name == "rows":
            write_rows(store, settings, table, batch())
        else:
            store.online_write_arrow(settings, [(table, batch())])
        tables[name] = (
            sqlite3.connect(tmp_path / f"{name}.db")
            .execute("SELECT * FROM team_wide ORDER BY entity_key, feature_name")
            .fetchall()
        )
    assert len(tables["rows"]) == 3 * len(table.features)
    assert tables["arrow"] == tables["rows"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A cluster of one node that holds every slot."""
    import redis

    folder = tmp_path_factory.mktemp("cluster")
    # Its bus would take the port plus 10,000, which there may not be.
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with redis_server(folder, *options) as port:
        node = redis.Redis(port=port)
        node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        while node.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
            time.sleep(0.02)
        yield port


@pytest.mark.server
@pytest.mark.parametrize("ttl", [None, 1000])
@pytest.mark.parametrize("kind", ["redis", "redis_cluster"])
def test_redis_holds_what_feasts_rows_would_be(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str, ttl: int | None
):
    import redis

    port = request.getfixturevalue("cluster" if kind == "redis_cluster" else "redis_port")
    settings = config(
        tmp_path,
        type="footpath_feast.redis.RedisOnlineStore",
        connection_string=f"127.0.0.1:{port}",
        redis_type=kind,
        key_ttl_seconds=ttl,
    )
    store = get_online_store_from_config(settings.online_store)

    def arrow(*rows: Any) -> None:
        store.online_write_arrow(settings, [rows])

    client, hashes = redis.Redis(port=port), []
    for write in (lambda *args: write_rows(store, settings, *args), arrow):
        client.flushall()
        write(view(), batch())
        hashes.append({key: client.hgetall(key) for key in client.scan_iter()})
        assert all((client.ttl(key) > 900) == bool(ttl) for key in hashes[-1])
    assert len(hashes[0]) == 3
    assert hashes[1] == hashes[0]


def test_progress_gets_the_rows_that_are_written(tmp_path: Path):
    settings = config(
        tmp_path,
        type="footpath_feast.sqlite.SqliteOnlineStore",
        path=str(tmp_path / "online.db"),
    )
    store = get_online_store_from_config(settings.online_store)
    store.update(settings, [], [view()], [], [], partial=True)
    written: list[int] = []
    store.online_write_arrow(settings, [(view(), batch())], written.append)
    assert written == [3]


def of_users(*users: str) -> pa.RecordBatch:
    """A row of `batch` each, for other users."""
    rows = batch().slice(0, len(users))
    return rows.set_column(0, "user_id", pa.array(users))


@pytest.mark.server
@pytest.mark.parametrize("kind", ["redis", "redis_cluster"])
def test_views_of_different_users_are_written_at_once_as_one_after_the_other(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
):
    import redis

    port = request.getfixturevalue("cluster" if kind == "redis_cluster" else "redis_port")
    settings = config(
        tmp_path,
        type="footpath_feast.redis.RedisOnlineStore",
        connection_string=f"127.0.0.1:{port}",
        redis_type=kind,
    )
    store = get_online_store_from_config(settings.online_store)
    other = view(without="word")
    other.name = "other"
    batches = [(view(), of_users("a", "b")), (other, of_users("ü", "b", "c"))]
    client, hashes = redis.Redis(port=port), []
    for parts in ([batches], [[one] for one in batches]):
        client.flushall()
        for part in parts:
            store.online_write_arrow(settings, part)
        hashes.append({key: client.hgetall(key) for key in client.scan_iter()})
    assert sorted(len(fields) for fields in hashes[0].values()) == [9, 9, 10, 19]
    assert hashes[1] == hashes[0]


def test_a_read_of_sqlite_meets_both_views_of_a_user_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = config(
        tmp_path,
        type="footpath_feast.sqlite.SqliteOnlineStore",
        path=str(tmp_path / "online.db"),
    )
    store = get_online_store_from_config(settings.online_store)
    other = view()
    other.name = "other"
    store.update(settings, [], [view(), other], [], [], partial=True)
    reader = sqlite3.connect(tmp_path / "online.db")
    seen: list[tuple] = []

    class Watched:
        """The connection of the store, before each statement of which others read."""

        def __init__(self, connection: Any) -> None:
            self.connection = connection

        def __getattr__(self, name: str) -> Any:
            return getattr(self.connection, name)

        def __enter__(self) -> Any:
            return self.connection.__enter__()

        def __exit__(self, *error: Any) -> Any:
            return self.connection.__exit__(*error)

        def executemany(self, *statement: Any) -> Any:
            counts = (f"(SELECT count(*) FROM team_{name})" for name in ("wide", "other"))
            seen.append(reader.execute(f"SELECT {', '.join(counts)}").fetchone())
            return self.connection.executemany(*statement)

    connection = Watched(store._get_conn(settings))
    monkeypatch.setattr(store, "_get_conn", lambda _: connection)
    for _ in range(2):
        store.online_write_arrow(settings, [(view(), batch()), (other, batch())])
    cells = 3 * len(view().features)
    assert seen == [(0, 0), (0, 0), (cells, cells), (cells, cells)]
