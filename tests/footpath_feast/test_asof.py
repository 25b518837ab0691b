"""The offline store gives what Feast's DuckDB store gives, cell by cell, and what Feast lacks."""

import datetime as dt
import functools
import inspect
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import (
    Entity,
    FeatureService,
    FeatureStore,
    FeatureView,
    Field,
    FileSource,
    OnDemandFeatureView,
    RepoConfig,
    RequestSource,
    ValueType,
)
from feast.data_format import ParquetFormat
from feast.errors import FeastEntityDFMissingColumnsError
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.types import Array, Float32, Float64, Int64, String
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ORIGIN = dt.datetime(2026, 1, 9, 23, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
SHOPS = [1, -2]
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
        st.sampled_from(["ann", "ann", "bób", None]),
        st.sampled_from(SHOPS),
        st.sampled_from([0, 1, 2, 4, None]),
        st.sampled_from([-1, 0, 1, 2, 3, 4, 5, 7, None, None]),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=40,
    # Where event and created are the same, Feast takes either row.
    unique_by=lambda row: (row.user, row.shop, row.event, row.created),
)
LABELS = st.lists(
    st.tuples(
        st.sampled_from(["ann", "ann", "bób", "cem", None]),
        st.sampled_from([*SHOPS, *SHOPS, 7]),
        st.sampled_from([-2, 0, 1, 2, 3, 4, 5, 6, 8, None]),
    ),
    min_size=8,
    max_size=30,
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
        registry=str(Path(tempfile.mkdtemp(dir=folder)) / "registry.db"),
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
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
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


def frame_of(*labels: tuple[str, int, int], **columns: Any) -> pd.DataFrame:
    """Labels of (user, shop, hour)."""
    users, shops, hours = zip(*labels, strict=True)
    at = pd.to_datetime([ORIGIN + hour * HOUR for hour in hours], utc=True)
    return pd.DataFrame({"user_id": users, "shop_id": shops, "event_timestamp": at} | columns)


def written(folder: Path, name: str, rows: list[Row], **options: Any) -> Any:
    """Both stores over a folder of its own, with the same rows in both views."""
    (folder / name).mkdir()
    write(folder / name / "both", rows, 1)
    write(folder / name / "user", rows, -1)
    return both_stores(folder / name, **options)


HISTORY = [
    Row("ann", 1, 0, 1, 0),
    Row("ann", 1, 0, 5, 1),  # a correction
    Row("ann", 1, 3, 4, 1),
    Row("ann", -2, 2, 3, 2),
    Row("bób", 1, 4, 9, 0),
]
BOTH = ["both:word", "both:count"]


@pytest.mark.parametrize("known_only", [False, True])
def test_a_range_of_time_is_the_labels_of_its_moments(folder: Path, known_only: bool):
    """A row for each moment at which a view has a row, as known by the end of the range."""
    ours, _ = written(folder, f"range-{known_only}", HISTORY)
    found = ours.get_historical_features(
        features=[*BOTH, "both:value"],
        start_date=ORIGIN,
        end_date=ORIGIN + 4 * HOUR,
        filter_by_created_timestamp=known_only,
    ).to_arrow()
    moments = [("ann", 1, 0), ("ann", -2, 2), ("ann", 1, 3), ("bób", 1, 4)]
    words = ["w1" if known_only else "w2", "w4", "w3", "w5"]
    keep = 3 if known_only else 4  # bób's row was known at 9 only
    assert found.column_names[2:] == ["event_timestamp", "word", "count", "value"]
    rows = [(*moment, word) for moment, word in zip(moments, words, strict=True)][:keep]
    expected = [(user, shop, ORIGIN + hour * HOUR, word) for user, shop, hour, word in rows]
    names = ["user_id", "shop_id", "event_timestamp", "word"]
    assert [tuple(row.values()) for row in found.select(names).to_pylist()] == expected


def test_a_range_of_two_views_is_feasts_answer_for_its_moments(folder: Path):
    rows = [row for row in HISTORY if row.shop == 1]
    (folder / "two").mkdir()
    write(folder / "two" / "both", rows[:3], 1)
    write(folder / "two" / "user", rows[2:], -1)
    ours, feasts = both_stores(folder / "two", ttls=(0, 2))
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    (folder / "two" / "elsewhere").mkdir()
    (folder / "two" / "elsewhere" / "user").symlink_to(folder / "two" / "both")
    other = views(folder / "two" / "elsewhere", (0, 2))[1]
    other.name = "other"
    for store in (ours, feasts):
        store.apply([user, other])
    asked = {"features": ["user:count", "other:count"], "full_feature_names": True}
    found = ours.get_historical_features(
        start_date=ORIGIN, end_date=ORIGIN + 9 * HOUR, **asked
    ).to_df()
    assert found["user_id"].tolist() == ["ann", "ann", "bób"]
    expected = feasts.get_historical_features(found[["user_id", "event_timestamp"]], **asked)
    keys = ["event_timestamp", "user_id"]
    expected = expected.to_df().sort_values(keys).reset_index(drop=True)[found.columns]
    pd.testing.assert_frame_equal(found, expected)
    with pytest.raises(ValueError, match="ask for views of the same keys"):
        ours.get_historical_features(features=["user:count", "both:value"], end_date=ORIGIN)


def test_an_entity_frame_may_be_sql_and_duckdb_is_bounded(folder: Path):
    ours, _ = written(folder, "sql", HISTORY)
    labels = frame_of(("ann", 1, 2), ("cem", 1, 9), number=[0, 1])
    labels.to_parquet(folder / "labels.parquet", index=False)
    by_frame = ours.get_historical_features(labels, BOTH).to_arrow()
    path = folder / "labels.parquet"
    by_sql = ours.get_historical_features(f"SELECT * FROM '{path}' ORDER BY number", BOTH)
    assert by_sql.to_arrow().to_pylist() == by_frame.to_pylist()
    assert by_sql.metadata.max_event_timestamp == ORIGIN + 9 * HOUR
    limits = (
        "SELECT 'ann' AS user_id, 1 AS shop_id, now() AS event_timestamp, "
        "current_setting('memory_limit') AS memory, current_setting('threads') AS threads"
    )
    limited = ours.get_historical_features(limits, BOTH).to_arrow().to_pylist()[0]
    assert (limited["memory"], limited["threads"]) == ("476.8 MiB", 1)


def scaled(inputs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"scaled": inputs["value"] * inputs["factor"]})


def test_views_on_demand_aliases_and_mapped_keys_are_feasts(folder: Path):
    ours, feasts = written(folder, "demand", HISTORY)
    both, user = views(folder / "demand", (0, 0))
    asked = RequestSource(name="asked", schema=[Field(name="factor", dtype=Int64)])

    demand = OnDemandFeatureView(
        name="demand",
        sources=[both[["value"]], asked],
        schema=[Field(name="scaled", dtype=Float64)],
        mode="pandas",
        udf=scaled,
        udf_string=inspect.getsource(scaled),
    )
    named = user.with_name("friend").with_join_key_map({"user_id": "friend_id"})
    service = FeatureService(
        name="demand_service", features=[both[["word"]], named[["count"]], demand]
    )
    frame = frame_of(("ann", 1, 2), ("cem", 1, 3), friend_id=["bób", "ann"], factor=[2, 3])
    answers = []
    for store in (ours, feasts):
        store.apply([both, user, demand, service])
        job = store.get_historical_features(frame, store.get_feature_service("demand_service"))
        answers.append(job.to_df().sort_values("event_timestamp").reset_index(drop=True))
    assert answers[0]["scaled"].notna().any()
    assert answers[0]["count"].notna().any()
    assert answers[0].columns.tolist() == [*frame.columns, "word", "count", "value", "scaled"]
    pd.testing.assert_frame_equal(answers[0], answers[1][answers[0].columns])


def test_materialization_reads_what_feasts_store_reads(folder: Path):
    answers = []
    for store in written(folder, "pull", HISTORY):
        view = store.get_feature_view("both")
        provider = store._get_provider()
        query = {
            "config": store.config,
            "data_source": view.batch_source,
            "join_key_columns": ["who", "shop_id"],
            "feature_name_columns": ["raw_count", "word"],
            "timestamp_field": "at",
            "created_timestamp_column": "made",
            "start_date": ORIGIN,
            "end_date": ORIGIN + 3 * HOUR,
        }
        for pull in ("pull_latest_from_table_or_query", "pull_all_from_table_or_query"):
            found = getattr(provider.offline_store, pull)(**query).to_arrow()
            answers.append(sorted(map(str, found.to_pylist())))
    assert answers[:2] == answers[2:]
    assert [len(answer) for answer in answers[:2]] == [2, 4]


def test_a_training_set_is_saved_and_read_again(folder: Path):
    ours, _ = written(folder, "saved", HISTORY)
    job = ours.get_historical_features(frame_of(("ann", 1, 2), ("bób", 1, 5)), BOTH)
    storage = SavedDatasetFileStorage(path=str(folder / "saved.parquet"))
    ours.create_saved_dataset(from_=job, name="set", storage=storage, allow_overwrite=True)
    saved = ours.get_saved_dataset("set").to_df()
    assert sorted(saved["word"]) == sorted(job.to_df()["word"]) == ["w2", "w5"]


def test_a_request_that_cannot_be_joined_gets_a_sentence(folder: Path):
    ours, _ = written(folder, "wrong", HISTORY)
    frame = frame_of(("ann", 1, 2))

    def ask(frame: pd.DataFrame, features: list[str] = BOTH, **options: Any) -> pa.Table:
        return ours.get_historical_features(frame, features, **options).to_arrow()

    with pytest.raises(ValueError, match="word would name two columns of the training set"):
        ask(frame.assign(word="mine"))
    assert ask(frame.assign(word="mine"), full_feature_names=True)["both__word"][0].as_py() == "w2"
    with pytest.raises(FeastEntityDFMissingColumnsError, match="shop_id"):
        ask(frame.drop(columns="shop_id"))
    with pytest.raises(ValueError, match="column user_id of the entity frame holds int64"):
        ask(frame.assign(user_id=7))
    view = views(folder / "wrong", (0, 0))[0]
    view.batch_source.timestamp_field = "when"
    ours.apply([view])
    with pytest.raises(ValueError, match="view both has no column when"):
        ask(frame)


def test_a_folder_that_is_named_like_a_column_does_not_replace_it(folder: Path):
    (folder / "named" / "word=folder").mkdir(parents=True)
    ours, _ = written(folder / "named", "word=folder/view", HISTORY)
    found = ours.get_historical_features(frame_of(("ann", 1, 2)), BOTH).to_arrow()
    assert found["word"].to_pylist() == ["w2"]


def test_a_view_without_an_entity_has_one_history(folder: Path):
    (folder / "alone").mkdir()
    write(folder / "alone" / "rows", HISTORY[:3], 1)
    source = FileSource(
        path=str(folder / "alone" / "rows"), timestamp_field="at", file_format=ParquetFormat()
    )
    view = FeatureView(name="alone", source=source, schema=[Field(name="word", dtype=String)])
    store = opened(folder / "alone", ASOF, view)
    frame = frame_of(("x", 0, -1), ("y", 0, 3), ("z", 0, 2))
    found = store.get_historical_features(frame, ["alone:word"]).to_arrow()
    assert found["word"].to_pylist() == [None, "w3", "w2"]


def test_a_file_that_is_replaced_while_it_is_read_gives_no_wrong_cell(folder: Path):
    """The rows of a file swap their places again and again; word and count name one row."""
    ours, _ = written(folder, "swap", [])
    file, rows = folder / "swap" / "both" / "1.parquet", 2_000
    base = pa.table(
        {
            "who": [f"u{n:05}" for n in range(rows)],
            "shop_id": pa.array([1] * rows, pa.int64()),
            "at": instants([0] * rows),
            "made": instants([1] * rows),
            "raw_count": range(rows),
            "value": pa.array([0.5] * rows),
            "vector": pa.array([[0.0]] * rows, pa.list_(pa.float32())),
            "word": [f"w{n}" for n in range(rows)],
        }
    )
    random, ended = np.random.default_rng(0), threading.Event()

    def swap() -> None:
        while not ended.is_set():
            pq.write_table(base.take(random.permutation(rows)), folder / "swap" / "new")
            (folder / "swap" / "new").replace(file)
            ended.wait(random.exponential(0.03))

    pq.write_table(base, file)
    frame = frame_of(*((f"u{n:05}", 1, 2) for n in range(rows)), number=range(rows))
    writer = threading.Thread(target=swap)
    writer.start()
    refused = 0
    try:
        for _ in range(20):
            try:
                found = ours.get_historical_features(frame, BOTH).to_arrow()
            except (RuntimeError, duckdb.Error):
                refused += 1
                continue
            assert found["count"].to_pylist() == list(range(rows))
            assert found["word"].to_pylist() == base["word"].to_pylist()
    finally:
        ended.set()
        writer.join()
    assert refused < 20
