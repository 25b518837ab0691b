"""A read gives Feast's own values, names and timestamps, in the order of the request."""

import asyncio
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Bool, Float32, Float64, Int64, String
from feast.value_type import ValueType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.redis_server import redis_server

USERS = ["ann", "bob", "ü", "", "nobody"]
WIDE = {
    "count": (Int64, pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "value": (Float64, pa.float64(), st.floats()),
    "word": (String, pa.string(), st.text(max_size=5)),
    "flag": (Bool, pa.bool_(), st.booleans()),
    "words": (Array(String), pa.list_(pa.string()), st.lists(st.text(max_size=2), min_size=1)),
}
VECTORS = {
    "vector": (
        Array(Float32),
        pa.list_(pa.float32(), 3),
        st.lists(st.floats(width=32), min_size=3, max_size=3),
    ),
    "loose": (
        Array(Float32),
        pa.list_(pa.float32()),
        st.lists(st.floats(width=32), min_size=1, max_size=4),
    ),
}
VIEWS = {"wide": WIDE, "vectors": VECTORS}
REFERENCES = [f"{view}:{name}" for view, columns in VIEWS.items() for name in columns]
INSTANTS = st.datetimes(dt.datetime(1971, 1, 1), dt.datetime(2100, 1, 1), timezones=st.just(dt.UTC))


@dataclass
class Stores:
    """Our store and Feast's own on the same content."""

    ours: FeatureStore
    feasts: FeatureStore

    def write(self, view: str, rows: list[dict[str, Any]]) -> None:
        """Writes rows through ours; what was there before of other users goes."""
        config, table = self.ours.config, self.ours.get_feature_view(view)
        kinds = {name: kind for name, (_, kind, _) in VIEWS[view].items()}
        clock = pa.timestamp("us", tz="UTC")
        schema = pa.schema({"user_id": pa.string(), "at": clock, "created": clock} | kinds)
        batch = pa.RecordBatch.from_pylist(rows, schema)
        self.online_store().online_write_arrow(config, [(table, batch)])

    def online_store(self) -> Any:
        return self.ours._get_provider().online_store


@st.composite
def rows_of(draw: st.DrawFn, view: str) -> list[dict[str, Any]]:
    """Draws a row of some users, with values missing."""
    rows = []
    for user in draw(st.lists(st.sampled_from(USERS[:-1]), unique=True, min_size=1)):
        at = draw(INSTANTS)
        row: dict[str, Any] = {"user_id": user, "at": at, "created": at}
        rows.append(row | {n: draw(st.none() | values) for n, (*_, values) in VIEWS[view].items()})
    return rows


def opened(folder: Path, kind: str, **options: object) -> FeatureStore:
    config = RepoConfig(
        project="team",
        provider="local",
        registry=str(folder / "registry.db"),
        online_store={"type": kind, **options},
        entity_key_serialization_version=3,
        repo_path=folder,
    )
    return FeatureStore(repo_path=str(folder), config=config)


def stores(folder: Path, kind: str, **options: object) -> Stores:
    """Opens both on an empty store, with two views and a service that mixes their order."""
    name = {"sqlite": "SqliteOnlineStore", "redis": "RedisOnlineStore"}[kind]
    ours = opened(folder, f"footpath_feast.{kind}.{name}", **options)
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    views = {}
    for view, columns in VIEWS.items():
        schema = [Field(name="user_id", dtype=String)]
        schema += [Field(name=name, dtype=dtype) for name, (dtype, *_) in columns.items()]
        source = FileSource(
            name=view,
            path=f"{view}.parquet",
            timestamp_field="at",
            created_timestamp_column="created",
        )
        views[view] = FeatureView(name=view, source=source, schema=schema, entities=[user])
    service = FeatureService(
        name="service",
        features=[views["vectors"][["loose", "vector"]], views["wide"][["word", "count", "value"]]],
    )
    ours.apply([user, *views.values(), service])
    return Stores(ours, opened(folder, kind, **options))


@pytest.fixture(
    scope="module",
    params=["sqlite", pytest.param("redis", marks=pytest.mark.server)],
)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    folder = tmp_path_factory.mktemp("store")
    if request.param == "sqlite":
        yield stores(folder, "sqlite", path=str(folder / "online.db"))
    else:
        with redis_server(folder) as port:
            yield stores(folder, "redis", connection_string=f"127.0.0.1:{port}")


def same(ours: Any, feasts: Any) -> bool:
    """Equality to the bit, also of NaN within vectors."""
    return repr(ours) == repr(feasts)


SETTINGS = settings(
    max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@given(
    wide=rows_of("wide"),
    vectors=rows_of("vectors"),
    asked=st.lists(st.sampled_from(REFERENCES), min_size=1, unique=True),
    users=st.lists(st.sampled_from(USERS), min_size=1, max_size=8),
    full=st.booleans(),
)
@SETTINGS
def test_values_equal_feasts_and_columns_keep_their_order(
    both: Stores, wide: list, vectors: list, asked: list[str], users: list[str], full: bool
):
    both.write("wide", wide)
    both.write("vectors", vectors)
    rows = [{"user_id": user} for user in users]
    ours = both.ours.get_online_features(asked, rows, full_feature_names=full)
    feasts = both.feasts.get_online_features(asked, rows, full_feature_names=full)
    names = [name.replace(":", "__") if full else name.partition(":")[2] for name in asked]

    for stamps in (False, True):
        got, wanted = ours.to_dict(stamps), feasts.to_dict(stamps)
        assert [name for name in got if not name.endswith("__ts")] == ["user_id", *names]
        assert got.keys() == wanted.keys()
        assert all(same(got[name], wanted[name]) for name in got)
    assert list(ours.to_df().columns) == ["user_id", *names]
    assert ours.to_arrow().column_names == ["user_id", *names]

    vector = dict(zip(feasts.proto.metadata.feature_names.val, feasts.proto.results, strict=True))
    assert list(ours.proto.metadata.feature_names.val) == ["user_id", *names]
    for name, result in zip(["user_id", *names], ours.proto.results, strict=True):
        assert result.SerializeToString() == vector[name].SerializeToString()


def test_a_service_gives_its_own_order_in_every_way_of_asking(both: Stores):
    at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    clocks = {"user_id": "ann", "at": at, "created": at}
    both.write("wide", [clocks | {"count": 3, "value": 0.5, "word": "x", "flag": True}])
    both.write("vectors", [clocks | {"vector": [1, 2, 3], "loose": [4]}])
    service = both.ours.get_feature_service("service")
    names = ["user_id", "loose", "vector", "word", "count", "value"]
    for rows in ([{"user_id": "ann"}], {"user_id": ["ann"]}):
        response = both.ours.get_online_features(service, rows)
        assert list(response.to_dict()) == names
        assert list(response.to_tensor()) == names
        assert response.to_tensor()["count"].tolist() == [3]
        later = asyncio.run(both.ours.get_online_features_async(service, rows))
        assert later.to_dict() == response.to_dict()


def test_what_is_left_to_feast_is_in_order_too(both: Stores):
    response = both.ours.get_online_features(
        REFERENCES[::-1], [{"user_id": "ann"}], include_feature_view_version_metadata=True
    )
    assert list(response.to_dict()) == ["user_id", *(r.partition(":")[2] for r in REFERENCES[::-1])]
    assert {view.name for view in response.proto.metadata.feature_view_metadata} == set(VIEWS)


def test_other_keys_and_views_on_demand_are_left_to_feast_in_order(tmp_path: Path):
    both = stores(tmp_path, "sqlite", path=str(tmp_path / "online.db"))
    wide = both.ours.get_feature_view("wide")
    shop = Entity(name="shop", join_keys=["shop_id"], value_type=ValueType.INT64)
    source = FileSource(name="shops", path="shops.parquet", timestamp_field="at")
    schema = [Field(name="shop_id", dtype=Int64), Field(name="size", dtype=Float64)]
    shops = FeatureView(name="shops", source=source, schema=schema, entities=[shop])

    @on_demand_feature_view(
        sources=[wide], schema=[Field(name="doubled", dtype=Float64)], mode="python"
    )
    def computed(inputs: dict) -> dict:
        return {"doubled": [2 * value for value in inputs["value"]]}

    both.ours.apply([shop, shops, computed])
    at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    both.write("wide", [{"user_id": "ann", "at": at, "created": at, "value": 0.5, "count": 3}])
    head = {"shop_id": pa.array([7], pa.int64()), "at": pa.array([at], pa.timestamp("us", "UTC"))}
    batch = pa.record_batch(head | {"size": [1.5]})
    both.online_store().online_write_arrow(both.ours.config, [(shops, batch)])
    both.feasts.refresh_registry()

    rows = [{"user_id": "ann", "shop_id": 7}, {"user_id": "bob", "shop_id": 7}]
    for asked in (["wide:value", "shops:size", "wide:count"], ["wide:count", "shops:size"]):
        ours = both.ours.get_online_features(asked, rows).to_dict()
        assert list(ours) == ["user_id", "shop_id", *(name.partition(":")[2] for name in asked)]
        assert ours == both.feasts.get_online_features(asked, rows).to_dict()
    asked = ["computed:doubled", "wide:count", "wide:value"]
    served = both.ours.get_online_features(asked, [{"user_id": "ann"}]).to_dict()
    assert list(served.items()) == [
        ("user_id", ["ann"]),
        ("doubled", [1.0]),
        ("count", [3]),
        ("value", [0.5]),
    ]


def test_a_request_that_feast_refuses_is_refused(both: Stores):
    with pytest.raises(ValueError, match="same keys"):
        both.ours.get_online_features(REFERENCES, [{"user_id": "ann"}, {"shop_id": "bob"}])
    with pytest.raises(KeyError, match="Missing join key"):
        both.ours.get_online_features(REFERENCES, [{"shop_id": "bob"}])


def test_ids_that_no_row_can_have_are_told_and_whole_numbers_are_texts(both: Stores):
    at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    blank = dict.fromkeys(WIDE) | {"count": 7}
    both.write("wide", [{"user_id": "17", "at": at, "created": at} | blank])
    for user in ("17", 17):
        found = both.ours.get_online_features(["wide:count"], [{"user_id": user}]).to_dict()
        assert found == {"user_id": ["17"], "count": [7]}
    with pytest.raises(TypeError, match=r"user_id holds 17\.0, a float: ids are text"):
        both.ours.get_online_features(["wide:count"], {"user_id": ["17", 17.0]})
    with pytest.raises(ValueError, match="entity_rows is empty"):
        both.ours.get_online_features(["wide:count"], [])


def test_all_views_are_read_in_one_round_trip(both: Stores, monkeypatch: pytest.MonkeyPatch):
    calls = []
    store = both.online_store()
    read = store._read_cells
    monkeypatch.setattr(store, "_read_cells", lambda *args: calls.append(args) or read(*args))
    both.ours.get_online_features(REFERENCES, [{"user_id": user} for user in USERS * 2])
    ((_, views, keys),) = calls
    assert (len(views), len(keys)) == (2, len(USERS))
