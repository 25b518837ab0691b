"""Every behavior feature names the columns that it is computed from."""

from contracts.lake.schemas import EVENTS, ITEMS, SESSIONS
from features.behavior.feature_fields import feature_fields
from features.behavior.origins import origins
from tests.builders.datasets import shop

COLUMNS = {"events": EVENTS.names, "sessions": SESSIONS.names, "items": ITEMS.names}


def test_every_feature_has_origins_that_are_columns():
    dataset = shop()
    for field in feature_fields(dataset):
        found = origins(dataset, field)
        assert found, field.name
        assert all(column in COLUMNS[table] for table, column in found), field.name


def test_origins_of_some_features_are_what_their_meaning_says():
    dataset = shop()
    found = {field.name: origins(dataset, field) for field in feature_fields(dataset)}
    assert found["events_7d"] == [("events", "timestamp")]
    assert ("sessions", "length") in found["session_length_mean_7d"]
