"""`footpath users similar`: neighbors of a user, all of them or those with given attributes."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json, publish_table
from contracts.lake.schemas import USERS
from features.store.similar import build_index
from features.store.view_specs import repository
from orchestration.cli.main import app
from tests.builders.datasets import shop
from tests.builders.store import DAY, publish_embeddings, publish_model

MODEL = "coles_bag_v1"


def similar(*arguments: str) -> list[str]:
    """The lines that the command prints."""
    result = CliRunner().invoke(app, ["users", "similar", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output.splitlines()


def test_neighbors_are_printed_and_a_filter_leaves_those_of_its_values(lake_home: Path):
    lake = Lake(lake_home / "lake" / "shop")
    publish_model(lake, MODEL)
    vectors = np.array([[1, 0], [1, 0.1], [1, 0.5], [0, 1]], np.float32)
    publish_embeddings(lake, shop(), MODEL, DAY, ["a", "b", "c", "-d"], vectors)
    build_index(shop(), lake, MODEL)
    service = {"features": {}, "tags": {"model_version": MODEL}}
    aliases = {"user_representation": "user_representation__v1"}
    services = {"user_representation__v1": service}
    document = {"services": services, "aliases": aliases, "withdrawn": []}
    publish_json(lake, document, repository(lake) / "services.json")
    cities = {"b": "Berlin", "c": "Bonn", "-d": "Berlin"}
    rows = [{"user_id": user, "attributes": [("city", city)]} for user, city in cities.items()]
    publish_table(lake, pa.Table.from_pylist(rows, schema=USERS), lake.single("users"))

    assert similar("a") == [" 0.995  b", " 0.894  c", " 0.000  -d"]
    assert similar("a", "--where", "city=Berlin") == [" 0.995  b", " 0.000  -d"]
    assert similar("a", "--where", "city=Berlin", "--where", "city=Bonn", "-k", "2") == [
        " 0.995  b",
        " 0.894  c",
    ]
    assert similar("--where", "city=Bonn", "--", "-d") == [" 0.447  c"]
    with pytest.raises(FootpathError, match=r"no other user with an embedding has city=Bern$"):
        similar("a", "--where", "city=Bern")
    with pytest.raises(FootpathError, match="'Berlin' is no filter: write ATTRIBUTE=VALUE"):
        similar("a", "--where", "Berlin")
