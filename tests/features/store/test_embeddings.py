"""A day that is embedded again gains rows where a vector changed, and loses none."""

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.base.clock import now
from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.reading import read_metadata
from contracts.lake.schemas import BUILT_FROM, embeddings_schema
from features.store import apply_registry, check_online, materialize, publish_embeddings
from features.store.repository import open_store
from features.store.similar import build_index, similar_users
from tests.builders.datasets import shop
from tests.builders.store import (
    DAY,
    HOUR,
    behavior_rows,
    midnight,
    publish_behavior,
    publish_model,
)

MODEL = "ptum_bert4rec_v1"
DATASET = shop()
ENDS = midnight(DATASET, DAY)
ANN, BOB, CEM = [1.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0]


@pytest.fixture
def lake(lake_home: Path) -> Lake:
    lake = Lake(lake_home / "lake" / "shop")
    publish_model(lake, MODEL)
    return lake


def embed(
    lake: Lake,
    vectors: dict[str, list[float]],
    scores: dict[str, float | None] | None = None,
    built_from: str = "",
) -> list[dict]:
    """Publishes what a model version has made of the day; returns what is published then."""
    count = len(vectors)
    columns = {
        "user_id": list(vectors),
        "event_timestamp": [ENDS] * count,
        "created": [ENDS + HOUR] * count,
        "written_at": [now()] * count,
        "embedding": list(vectors.values()),
        "model_version": [MODEL] * count,
    }
    if scores:
        columns["score"] = [scores[user] for user in vectors]
    with lake.staging() as folder:
        staged = folder / "fresh.parquet"
        schema = embeddings_schema(4, 1 if scores else 0)
        with pq.ParquetWriter(staged, schema) as writer:
            writer.write_table(pa.table(columns, schema=schema))
            writer.add_key_value_metadata({BUILT_FROM: built_from.encode()})
        rows = publish_embeddings(lake, MODEL, DAY, staged)
    table = pq.read_table(lake.day(f"user_embeddings/{MODEL}", DAY))
    assert table.schema.equals(schema)
    assert table.num_rows == rows
    return table.to_pylist()


def test_a_first_embedding_was_known_when_its_day_ended(lake: Lake):
    rows = embed(lake, {"ann": ANN, "bob": BOB})
    assert [row["created"] for row in rows] == [ENDS + HOUR] * 2


def test_the_same_vectors_again_change_nothing(lake: Lake):
    first = embed(lake, {"ann": ANN, "bob": BOB})
    assert embed(lake, {"ann": ANN, "bob": BOB}) == first
    rounded = (np.float32(ANN) * np.float32(1 + 1e-6)).tolist()
    assert rounded != ANN
    assert embed(lake, {"ann": rounded, "bob": BOB}) == first


def test_a_published_day_says_of_which_events_it_was_made_last(lake: Lake):
    embed(lake, {"ann": ANN}, built_from="one")
    embed(lake, {"ann": ANN, "bob": BOB}, built_from="two")
    found = read_metadata(lake.day(f"user_embeddings/{MODEL}", DAY)).metadata
    assert found[BUILT_FROM] == b"two"


def test_what_changed_or_is_new_is_created_now_and_the_rest_stays(lake: Lake):
    first = embed(lake, {"ann": ANN, "bob": BOB, "eve": ANN})
    before = now()
    rows = embed(lake, {"ann": CEM, "bob": BOB, "cem": CEM})  # eve has no event any more
    added = [row for row in rows if row not in first]
    assert [row for row in rows if row in first] == first
    assert [(row["user_id"], row["embedding"]) for row in added] == [("ann", CEM), ("cem", CEM)]
    assert all(before <= row["created"] == row["written_at"] <= now() for row in added)
    assert {row["event_timestamp"] for row in rows} == {ENDS}
    order = [(row["user_id"], row["event_timestamp"], row["created"]) for row in rows]
    assert order == sorted(order)
    # Back to what it was: a third row, for the newest is what counts.
    again = embed(lake, {"ann": ANN, "bob": BOB, "cem": CEM})
    assert [row["embedding"] for row in again if row["user_id"] == "ann"] == [ANN, CEM, ANN]


def test_scores_go_with_the_vector_that_they_are_made_of(lake: Lake):
    first = embed(lake, {"ann": ANN, "bob": BOB}, {"ann": 0.25, "bob": None})
    rows = embed(lake, {"ann": CEM, "bob": BOB}, {"ann": 0.75, "bob": None})
    assert [row for row in rows if row in first] == first
    found = [(row["user_id"], row["score"]) for row in rows]
    assert found == [("ann", 0.25), ("ann", 0.75), ("bob", None)]


def test_a_score_that_changed_alone_is_a_row_too_and_its_rounding_is_none(lake: Lake):
    first = embed(
        lake, {"ann": ANN, "bob": BOB, "cem": CEM}, {"ann": 40.0, "bob": None, "cem": 0.0}
    )
    same = {"ann": 40.0 * (1 + 1e-6), "bob": None, "cem": 0.0}
    assert embed(lake, {"ann": ANN, "bob": BOB, "cem": CEM}, same) == first
    rows = embed(lake, {"ann": ANN, "bob": BOB, "cem": CEM}, {"ann": 41.0, "bob": 0.5, "cem": None})
    assert [row for row in rows if row in first] == first
    found = [(row["user_id"], row["score"]) for row in rows if row not in first]
    assert found == [("ann", 41.0), ("bob", 0.5), ("cem", None)]


def test_a_day_of_other_columns_is_refused(lake: Lake):
    embed(lake, {"ann": ANN})
    with pytest.raises(FootpathError, match=r"other columns .*\(score\)"):
        embed(lake, {"ann": ANN}, {"ann": 0.5})


def test_every_reader_takes_the_newest_row_of_a_user(lake: Lake):
    publish_behavior(lake, DAY, behavior_rows(DATASET, DAY, ["ann", "bob", "cem"], 1))
    embed(lake, {"ann": ANN, "bob": BOB, "cem": CEM})
    apply_registry(DATASET, lake)
    view = f"user_embeddings_{MODEL}"
    assert materialize(DATASET, lake).views[view] == 3
    moved = now()
    embed(lake, {"ann": BOB, "bob": BOB, "cem": CEM})
    assert materialize(DATASET, lake).views[view] == 1  # what did not change is not written again
    feature = f"{view}:embedding_{MODEL}"
    store = open_store(lake)
    online = store.get_online_features([feature], [{"user_id": "ann"}]).to_dict()
    assert online[f"embedding_{MODEL}"] == [BOB]
    assert check_online(DATASET, lake).mismatches == []
    build_index(DATASET, lake, MODEL)
    assert similar_users(lake, "ann", k=1, version=MODEL) == [("bob", 1.0)]

    times = [ENDS, ENDS + HOUR, moved, now() + dt.timedelta(seconds=1)]
    labels = pd.DataFrame({"user_id": "ann", "event_timestamp": times})
    past = store.get_historical_features(labels, [feature], filter_by_created_timestamp=True)
    rows = past.to_df().sort_values("event_timestamp")[f"embedding_{MODEL}"]
    assert [None if row is None else list(row) for row in rows] == [None, ANN, ANN, BOB]
