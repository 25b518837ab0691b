"""A lake on S3 holds what the same run leaves on a local disk, and nothing half-written shows."""

from pathlib import Path

import pytest

from contracts.config.sources import link_source
from contracts.lake.layout import Lake
from features.store.similar import similar_users
from tests.s3 import chain
from tests.s3.conftest import Bucket
from tests.s3.watch import Watcher


@pytest.fixture(scope="session")
def on_disk(shop_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What the chain leaves in a local lake."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOOTPATH_HOME", str(home))
        patch.delenv("FOOTPATH_LAKE", raising=False)
        link_source("shop", str(shop_folder))
        lake = Lake.of("shop")
        rebuilt = chain.build_tables(lake)
        check = chain.build_store(lake)
        user = lake_user(lake)
        return {
            "rebuilt": rebuilt,
            "check": check,
            "similar": similar_users(lake, user, k=5),
            "contents": chain.contents(lake),
        }


def lake_user(lake: Lake) -> str:
    from contracts.lake.reading import read_table

    return read_table(lake.day(f"user_embeddings/{chain.VERSION}", chain.LAST))["user_id"][
        0
    ].as_py()


def test_a_lake_on_s3_is_equal_to_one_on_disk(
    bucket: Bucket, on_disk: dict, shop_folder: Path, lake_home: Path, monkeypatch
):
    monkeypatch.setenv("FOOTPATH_LAKE", f"{bucket.url}/lake")
    link_source("shop", bucket.put(shop_folder, "landing"))
    lake = Lake.of("shop")
    with Watcher(f"{bucket.name}/lake/shop", bucket.server.client(), pause=0.1) as watcher:
        rebuilt = chain.build_tables(lake)
        check = chain.build_store(lake)
    assert rebuilt == on_disk["rebuilt"]
    assert check == on_disk["check"]
    assert check.sampled == check.equal > 20
    assert similar_users(lake, lake_user(lake), k=5) == on_disk["similar"]
    found = chain.contents(lake)
    assert found.keys() == on_disk["contents"].keys()
    different = [name for name in found if found[name] != on_disk["contents"][name]]
    assert different == []
    assert watcher.faults == []
    assert watcher.read > 100
