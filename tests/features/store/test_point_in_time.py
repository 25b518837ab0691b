"""A training set sees neither the future nor what was computed later, and loses no label."""

import datetime as dt
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from contracts.lake.schemas import embeddings_schema
from features.behavior.build import feature_fields
from features.store import promote
from features.store.repository import open_store
from tests.builders.datasets import shop
from tests.builders.store import HOUR, publish_model

MODEL = "ptum_bert4rec_v1"
ORIGIN = dt.datetime(2026, 1, 9, 23, tzinfo=dt.UTC)
DATASET = shop()
FEATURE = next(field.name for field in feature_fields(DATASET) if field.kind == "int64")
USERS = ["ann", "bob", "cem"]


class Row(NamedTuple):
    """A feature row: hours after ORIGIN at which it stands, and at which it was known."""

    user: str
    event: int
    created: int


@st.composite
def feature_rows(draw: st.DrawFn) -> list[Row]:
    """Draws daily rows, some of them corrected later under the same event timestamp."""
    rows = st.builds(
        lambda user, day, delay: Row(user, 24 * day, 24 * day + delay),
        st.sampled_from(USERS[:2]),
        st.integers(0, 4),
        st.sampled_from([1, 2, 25, 49, 200]),
    )
    return draw(st.lists(rows, min_size=1, max_size=20, unique=True))


LABELS = st.lists(st.tuples(st.sampled_from(USERS), st.integers(-1, 130)), min_size=1, max_size=15)


def publish(lake: Lake, rows: list[Row]) -> None:
    """Publishes behavior features and embeddings that hold the row's number, counted from 1."""
    numbers = np.arange(1, len(rows) + 1)
    event = pa.array([ORIGIN + row.event * HOUR for row in rows], pa.timestamp("us", tz="UTC"))
    created = pa.array([ORIGIN + row.created * HOUR for row in rows], event.type)
    head = {"user_id": [row.user for row in rows], "event_timestamp": event}
    head |= {"created": created, "written_at": created}
    kinds = {field.name: pa.type_for_alias(field.kind) for field in feature_fields(DATASET)}
    fields = {name: pa.array(numbers).cast(kind) for name, kind in kinds.items()}
    day = ORIGIN.date()
    publish_table(lake, pa.table(head | fields), lake.day("user_behavior_features", day))
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(numbers, 2).astype("f4")), 2)
    table = pa.table(
        head | {"embedding": vectors, "model_version": [MODEL] * len(rows)},
        schema=embeddings_schema(2),
    )
    publish_table(lake, table, lake.day(f"user_embeddings/{MODEL}", day))


def expected(rows: list[Row], user: str, hour: int, known_only: bool) -> int | None:
    """Returns the number of the row that a training set must show, by brute force."""
    seen = [
        (row.event, row.created, number)
        for number, row in enumerate(rows, start=1)
        if row.user == user and row.event <= hour and (not known_only or row.created <= hour)
    ]
    return max(seen)[2] if seen else None


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake whose promoted service stays while its rows are replaced."""
    lake = Lake(tmp_path_factory.mktemp("lake") / "shop")
    publish_model(lake, MODEL)
    publish(lake, [Row("ann", 0, 1)])
    assert promote(DATASET, lake, MODEL) == "user_representation__v1"
    return lake


@pytest.mark.parametrize("known_only", [True, False])
@given(rows=feature_rows(), labels=LABELS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_training_set_equals_brute_force(
    lake: Lake, known_only: bool, rows: list[Row], labels: list[tuple[str, int]]
):
    publish(lake, rows)
    store = open_store(lake)
    entities = pd.DataFrame(
        {
            "user_id": [user for user, _ in labels],
            "event_timestamp": [ORIGIN + hour * HOUR for _, hour in labels],
            "label": range(len(labels)),
        }
    )
    training = store.get_historical_features(
        entities,
        store.get_feature_service("user_representation__v1"),
        filter_by_created_timestamp=known_only,
    ).to_df()

    wanted = [expected(rows, user, hour, known_only) for user, hour in labels]
    by_label = training.set_index("label").loc[range(len(labels))]  # KeyError if a label vanished
    assert len(training) == len(labels)
    numbers = by_label[FEATURE].astype(object).where(by_label[FEATURE].notna(), None)
    assert numbers.tolist() == wanted
    vectors = by_label[f"embedding_{MODEL}"].tolist()
    assert [None if vector is None else vector[0] for vector in vectors] == wanted


def test_a_correction_is_seen_by_labels_after_it_and_not_before(lake: Lake):
    publish(lake, [Row("ann", 24, 25), Row("ann", 24, 49)])
    store = open_store(lake)
    hours = [24, 25, 48, 49]
    entities = pd.DataFrame(
        {"user_id": "ann", "event_timestamp": [ORIGIN + hour * HOUR for hour in hours]}
    )
    training = store.get_historical_features(
        entities, [f"user_behavior_features_v1:{FEATURE}"], filter_by_created_timestamp=True
    ).to_df()
    seen = training.sort_values("event_timestamp")[FEATURE]
    assert [None if np.isnan(value) else value for value in seen] == [None, 1, 1, 2]
