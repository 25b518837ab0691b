"""Retention of a lake on S3: the same rule, and copies that can be fetched again."""

import datetime as dt
import os
from pathlib import Path

import pytest

from contracts.base.clock import now
from contracts.lake.copies import local_copy
from contracts.lake.layout import Lake
from contracts.lake.paths import key_of, system_of
from contracts.lake.reading import read_json, tree
from contracts.lake.versions import CONFIG, WEIGHTS, all_versions, is_trained
from features.store.similar import similar_users
from orchestration.retention.clean import clean
from orchestration.retention.report import Report
from tests.builders.datasets import shop
from tests.builders.retention import GONE, NEWEST, SERVED, old_lake, put
from tests.crash import dies_at, preload, steps_of
from tests.s3.conftest import Bucket

preload("orchestration.retention.clean", "features.store", "s3fs")


def after(lake: Lake, days: float) -> Report:
    return clean(shop(), lake, None, now() + dt.timedelta(days=days))


def trial(lake: Lake, version: str) -> Path:
    return next(v.folder(lake) for v in all_versions(lake) if v.version == version)


def check_pointers(lake: Lake) -> None:
    files = tree(lake.root).keys()
    for place in ("sequences", "feature_store/similar"):
        for pointer in [f for f in files if f.rpartition("/")[0] == place and f.endswith("json")]:
            folder = f"{place}/{read_json(lake.root / pointer)['folder']}/"
            assert sum(file.startswith(folder) for file in files) == 2
    for config in [f for f in files if f.startswith("trials/") and f.endswith(CONFIG)]:
        assert config.replace(CONFIG, WEIGHTS) in files


@pytest.mark.long
def test_the_same_goes_and_stays_on_s3(bucket: Bucket, lake_home: Path, monkeypatch):
    monkeypatch.setenv("FOOTPATH_LAKE", f"{bucket.url}/lake")
    lake = Lake.of("shop")
    old_lake(lake, days=0)
    everything = tree(lake.root).keys()
    online = put(lake, "feature_store/online.db", "of this machine")
    state = put(lake, "trials/killed/state.safetensors", "of this machine")
    for version in (SERVED, GONE):
        assert similar_users(lake, "u0", k=2, version=version)  # fetches the index
        local_copy(lake, trial(lake, version))
    young = after(lake, 20)
    assert {each.kind for each in young.of("removed")} <= {"training sequences", "staging"}

    first = after(lake, 40)
    assert {each.name for each in first.of("removed") if each.kind == "model versions"} == {GONE}
    assert not is_trained(lake, trial(lake, GONE).name)
    assert (trial(lake, GONE) / WEIGHTS).exists()
    assert not (lake.work / "trials" / trial(lake, GONE).name / CONFIG).exists()
    assert not (lake.work / "trials" / trial(lake, SERVED).name / WEIGHTS).exists()
    assert online.exists()
    assert not state.exists()
    check_pointers(lake)
    assert after(lake, 40).of("removed") == []

    after(lake, 42)
    check_pointers(lake)
    gone = everything - tree(lake.root).keys()
    assert {file.partition("/")[0] for file in gone} == {
        "trials",
        "user_embeddings",
        "feature_store",
        "sequences",
    }
    assert not list(lake.table(f"user_embeddings/{GONE}").glob("*.parquet"))
    for version in (SERVED, *NEWEST):
        assert similar_users(lake, "u0", k=2, version=version)
        assert (local_copy(lake, trial(lake, version)) / WEIGHTS).exists()
    before = tree(lake.root)
    assert {each.kind for each in after(lake, 42).of("removed")} == {"local copies"}
    assert tree(lake.root) == before


def clean_at(home: str, url: str, days: float) -> None:
    os.environ |= {"FOOTPATH_HOME": home, "FOOTPATH_LAKE": url}
    after(Lake.of("shop"), days)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_killed_it_leaves_a_whole_lake_on_s3(bucket: Bucket, lake_home: Path, monkeypatch):
    monkeypatch.setenv("FOOTPATH_LAKE", f"{bucket.url}/made")
    made = Lake.of("shop")
    old_lake(made, days=0)

    def fresh(name: str) -> tuple[Lake, tuple[str, str]]:
        home, url = str(lake_home / name), f"{bucket.url}/{name}"
        monkeypatch.setenv("FOOTPATH_HOME", home)
        monkeypatch.setenv("FOOTPATH_LAKE", url)
        lake = Lake.of("shop")
        system_of(lake.root).copy(f"{key_of(made.root)}/", f"{key_of(lake.root)}/", recursive=True)
        return Lake.of("shop"), (home, url)

    undisturbed, where = fresh("undisturbed")
    first, second = steps_of(clean_at, *where, 40), steps_of(clean_at, *where, 42)
    wanted = tree(undisturbed.root).keys()
    assert wanted < tree(made.root).keys() | {"retired.json"}
    for step in range(0, first + second, 3):
        lake, where = fresh(f"killed{step}")
        if step < first:
            assert dies_at(step, clean_at, *where, 40)
        else:
            clean_at(*where, 40)
            assert dies_at(step - first, clean_at, *where, 42)
        check_pointers(lake)
        clean_at(*where, 43)
        clean_at(*where, 45)
        assert tree(lake.root).keys() == wanted
