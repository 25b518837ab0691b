"""What a shop that was lived through must end with: the rows of one build, and these online."""

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.config.dataset import Dataset
from contracts.config.sources import link_source
from contracts.lake.layout import Lake
from features.behavior.build import feature_fields
from features.ingestion.lookup_tables import build_items, build_users
from features.store.repository import open_store
from features.store.services import known_services
from tests.builders.daily import STAGES, build, ingest, values


def built_at_once(dataset: Dataset, source: Path, days: list[dt.date], home: Path) -> Lake:
    """The lake of another home folder, whose tables are built once of all files of a source."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOOTPATH_HOME", str(home))
        patch.delenv("FOOTPATH_LAKE", raising=False)
        patch.delenv("FOOTPATH_SOURCE_SHOP", raising=False)
        link_source(dataset.name, str(source))
        lake = Lake.of(dataset.name)
        build_items(dataset, lake)
        build_users(dataset, lake)
        ingest(dataset, days)
        build(dataset, lake, days, tuple(name for name in STAGES if name != "events"))
    return lake


def assert_same_rows(dataset: Dataset, lived_through: Lake, at_once: Lake) -> None:
    """Compares the newest revision of every row of the daily tables."""
    found, expected = values(lived_through), values(at_once)
    assert found.keys() == expected.keys()
    fields = {field.name for field in feature_fields(dataset)}
    for name, rows in expected.items():
        # Features that were removed from the list are there still.
        kept = {"user_id", "event_timestamp", *fields} if name.startswith("user_b") else None
        got = [{k: v for k, v in row.items() if kept is None or k in kept} for row in found[name]]
        # Who is gone from a published day has a row of nothing since (features/revisions.py).
        got = [row for row in got if row in rows or any([*row.values()][2:])]
        odd = [row for row in got if row not in rows] + [row for row in rows if row not in got]
        assert not odd, (name, odd[:4])
        assert len(got) == len(rows), name


def assert_online_is_newest(dataset: Dataset, lake: Lake) -> None:
    """Compares every user's features in the online store with the newest row of the lake."""
    newest: dict[str, dict] = {}
    for day in lake.days("user_behavior_features"):
        object_ = pa.BufferReader(lake.day("user_behavior_features", day).read_bytes())
        rows = pq.read_table(object_).to_pylist()
        for row in sorted(rows, key=lambda row: (row["event_timestamp"], row["created"])):
            newest[row["user_id"]] = row
    store = open_store(lake)
    service = store.get_feature_service(known_services(lake).aliases["user_behavior"])
    users = sorted(newest)
    assert users
    online = store.get_online_features(service, [{"user_id": user} for user in users]).to_dict()
    for field in feature_fields(dataset):
        expected = [newest[user].get(field.name) for user in users]
        got = online[field.name]
        assert (
            np.allclose(np.array(got, float), np.array(expected, float), equal_nan=True)
            if field.kind != "string"
            else got == expected
        ), field.name
