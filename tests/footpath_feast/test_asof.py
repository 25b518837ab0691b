"""The offline store gives what Feast's DuckDB store gives, cell by cell, and what Feast lacks."""

import datetime as dt
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Array, Float32, Float64, Int64, String
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ORIGIN = dt.datetime(2026, 1, 9, 23, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
USERS, SHOPS = ["ann", "bób", "cem"], [1, -2]
ASOF = {"type": "footpath_feast.asof.AsofOfflineStore", "memory_limit": "500MB", "threads": 1}
UTC = pa.timestamp("us", tz="UTC")


class Row(NamedTuple):
    """A row of a view: hours after ORIGIN at which it stands, and was known; None: not said."""

    user: str | None
    shop: int
    event: int | None
    created: int | None
    file: int


ROWS = st.lists(
    st.builds(
        Row,
        st.sampled_from([*USERS[:2], None]),
        st.sampled_from(SHOPS),
        st.one_of(st.integers(0, 6), st.none()),
        st.one_of(st.integers(-3, 12), st.none()),
        st.integers(0, 2),
    ),
    max_size=25,
    # Where event and created are the same, Feast takes either row.
    unique_by=lambda row: (row.user, row.shop, row.event, row.created),
)
LABELS = st.lists(
    st.tuples(
        st.sampled_from([*USERS, None]),
        st.sampled_from([*SHOPS, 7]),
        st.one_of(st.integers(-2, 14), st.none()),
    ),
    min_size=1,
    max_size=12,
).filter(lambda labels: any(at is not None for _, _, at in labels))


def instants(hours: list[int | None], kind: pa.DataType = UTC) -> pa.Array:
    return pa.array([None if h is None else ORIGIN + h * HOUR for h in hours], UTC).cast(kind)


def write(folder: Path, rows: list[Row], sign: int, kind: pa.DataType = UTC) -> None:
    """Writes rows into three files; features hold the row's number, counted from one."""
    folder.mkdir(exist_ok=True)
    numbers = np.arange(1, len(rows) + 1) * sign
    vectors = pa.array([[number, 0.5] for number in numbers], pa.list_(pa.float32(), 2))
    table = pa.table(
        {
            "who": pa.array([row.user for row in rows], pa.string()),
            "shop_id": pa.array([row.shop for row in rows], pa.int64()),
            "at": instants([row.event for row in rows], kind),
            "made": instants([row.created for row in rows], kind),
            "raw_count": pa.array([n if n % 4 else None for n in numbers.tolist()], pa.int64()),
            "value": pa.array(numbers / 7, pa.float64()),
            "vector": vectors,
            "word": pa.array([f"w{number}" for number in numbers], pa.string()),
        }
    )
    files = np.array([row.file for row in rows], int)
    for file in range(3):
        pq.write_table(table.filter(pa.array(files == file)), folder / f"{file}.parquet")


def views(folder: Path, ttls: tuple[int, int], created: str = "made") -> list[FeatureView]:
    """Two views keyed by user, one of them by shop also, with mapped columns."""
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    shop = Entity(name="shop", join_keys=["shop_id"], value_type=ValueType.INT64)
    key = [Field(name="user_id", dtype=String)]
    schema = [
        Field(name="count", dtype=Int64),
        Field(name="value", dtype=Float64),
        Field(name="vector", dtype=Array(Float32)),
        Field(name="word", dtype=String),
    ]
    found = []
    for name, entities, ttl in (("both", [user, shop], ttls[0]), ("user", [user], ttls[1])):
        keys = key + [Field(name="shop_id", dtype=Int64)] * (len(entities) - 1)
        source = FileSource(
            name=name,
            path=str(folder / name / "*.parquet"),
            timestamp_field="at",
            created_timestamp_column=created,
            field_mapping={"who": "user_id", "raw_count": "count"},
        )
        found.append(
            FeatureView(
                name=name, source=source, schema=keys + schema, entities=entities, ttl=ttl * HOUR
            )
        )
    return found


def opened(folder: Path, offline: dict[str, Any], *objects: Any) -> FeatureStore:
    config = RepoConfig(
        project="team",
        provider="local",
        registry=str(folder / f"{offline['type']}.db"),
        offline_store=offline,
        online_store={"type": "sqlite", "path": str(folder / "online.db")},
        entity_key_serialization_version=3,
        repo_path=folder,
    )
    store = FeatureStore(config=config)
    store.apply(list(objects))
    return store


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@functools.cache
def both_stores(
    folder: Path, ttls: tuple[int, int] = (0, 0), created: str = "made"
) -> tuple[FeatureStore, FeatureStore]:
    """Ours and Feast's over the same files."""
    declared = views(folder, ttls, created)
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    shop = Entity(name="shop", join_keys=["shop_id"], value_type=ValueType.INT64)
    return tuple(opened(folder, kind, user, shop, *declared) for kind in (ASOF, {"type": "duckdb"}))  # pyright: ignore[reportReturnType]


def cells(table: pa.Table) -> list[list]:
    """Columns as Python values, by the number of the label."""
    order = np.argsort(table["number"].to_numpy())
    return [
        [value.tolist() if isinstance(value, np.ndarray) else value for value in column]
        for column in (table[name].take(order).to_pylist() for name in table.column_names)
    ]


@given(
    wide=ROWS,
    narrow=ROWS,
    labels=LABELS,
    ttls=st.tuples(st.sampled_from([0, 1, 3]), st.sampled_from([0, 2])),
    known_only=st.booleans(),
    created=st.sampled_from(["made", ""]),
    zone=st.sampled_from(["UTC", "America/New_York", None]),
    kind=st.sampled_from([UTC, pa.timestamp("us"), pa.timestamp("ms", tz="Asia/Tokyo")]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_answers_are_feasts_cell_by_cell(
    folder: Path,
    wide: list[Row],
    narrow: list[Row],
    labels: list[tuple],
    ttls: tuple[int, int],
    known_only: bool,
    created: str,
    zone: str | None,
    kind: pa.DataType,
):
    if not created:  # of rows with one event timestamp Feast then takes any
        wide, narrow = (
            list({(row.user, row.shop, row.event): row for row in rows}.values())
            for rows in (wide, narrow)
        )
    narrow = list(
        {(row.user, row.event, row.created if created else 0): row for row in narrow}.values()
    )
    write(folder / "both", wide, 1, kind)
    write(folder / "user", narrow, -1, kind)
    at = pd.to_datetime(pd.Series(instants([at for _, _, at in labels]).to_pandas()), utc=True)
    frame = pd.DataFrame(
        {
            "number": range(len(labels)),
            "shop_id": [shop for _, shop, _ in labels],
            "event_timestamp": at.dt.tz_convert(zone),
            "user_id": [user for user, _, _ in labels],
            "label": [0.5] * len(labels),
        }
    )
    features = ["both:word", "user:vector", "user:count", "both:vector", "both:count", "user:value"]
    ours, feasts = (
        store.get_historical_features(
            frame, features, full_feature_names=True, filter_by_created_timestamp=known_only
        ).to_arrow()
        for store in both_stores(folder, ttls, created)
    )
    expected = [feature.replace(":", "__") for feature in features]
    assert ours.column_names == [*frame.columns, *expected]
    assert ours["number"].to_pylist() == list(range(len(labels)))
    assert cells(ours) == cells(feasts.select(ours.column_names))
