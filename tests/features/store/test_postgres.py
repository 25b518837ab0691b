"""With its registry in PostgreSQL, a feature store needs no file of ours to be read."""

from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile

import pytest

from contracts.base.errors import FootpathError
from features.store import apply_registry, materialize, promote, repository
from tests.builders.datasets import shop
from tests.builders.store import small_lake
from tests.postgres import new_database

pytestmark = pytest.mark.server


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database of the test's own, which FOOTPATH_REGISTRY points at."""
    with new_database() as address:
        monkeypatch.setenv("FOOTPATH_REGISTRY", address)
        yield address


def test_a_service_is_read_through_a_registry_in_postgres(
    lake_home: Path, tmp_path: Path, registry: str
):
    from feast import FeatureStore

    dataset, lake = shop(), small_lake(lake_home)
    report = apply_registry(dataset, lake)
    name = promote(dataset, lake, "ptum_bert4rec_v1")
    materialize(dataset, lake)
    assert report.registry == "sql"
    assert not (repository(lake) / "registry.db").exists()

    elsewhere = tmp_path / "team"
    elsewhere.mkdir()
    for file in ("feature_store.yaml", "online.db"):
        copyfile(repository(lake) / file, elsewhere / file)
    store = FeatureStore(repo_path=str(elsewhere))
    assert store.get_project("shop").tags["user_representation"] == name
    served = store.get_online_features(
        store.get_feature_service(name), [{"user_id": "u1"}]
    ).to_dict()
    assert served["embedding_ptum_bert4rec_v1"] == [[0.0, 1.0, 0.0, 0.0]]


def test_applying_again_to_postgres_keeps_every_service(lake_home: Path, registry: str):
    dataset, lake = shop(), small_lake(lake_home)
    promote(dataset, lake, "ptum_bert4rec_v1")
    apply_registry(shop([1, 7]), lake)
    report = apply_registry(dataset, lake)
    assert "user_representation__v1" in report.services
    for ledger in ("views.json", "services.json"):
        (repository(lake) / ledger).unlink()
    with pytest.raises(FootpathError, match="in the registry of project shop"):
        apply_registry(shop([7]), lake)
