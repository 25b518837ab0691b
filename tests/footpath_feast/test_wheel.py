"""The plugin is a wheel of its own that needs nothing else of Footpath."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PLUGIN = REPOSITORY / "footpath_feast"
# A project elsewhere: a feature_store.yaml, one Parquet file, and the wheel on the path.
ELSEWHERE = """
import datetime as dt, importlib.util, sys
assert not any(importlib.util.find_spec(name) for name in ("contracts", "features", "models"))
import pandas as pd
import footpath_feast
assert footpath_feast.__file__.startswith(sys.argv[1]), footpath_feast.__file__
from feast import Entity, FeatureStore, FeatureView, Field, FileSource
from feast.types import Int64
day = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
rows = pd.DataFrame({"user": ["a", "a"], "t": [day, day + dt.timedelta(days=1)], "n": [1, 2]})
rows.to_parquet("rows.parquet", coerce_timestamps="us")
store = FeatureStore(".")
user = Entity(name="user", join_keys=["user"])
source = FileSource(path="rows.parquet", timestamp_field="t")
view = FeatureView(name="v", entities=[user], schema=[Field(name="n", dtype=Int64)], source=source)
store.apply([user, view])
asked = pd.DataFrame({"user": ["a"], "event_timestamp": [day + dt.timedelta(hours=5)]})
joined = store.get_historical_features(asked, ["v:n"]).to_df()["n"].tolist()
store.materialize(day - dt.timedelta(days=1), day + dt.timedelta(days=2))
print()
print(joined, store.get_online_features(["v:n"], [{"user": "a"}]).to_dict())
assert "dagster" not in sys.modules  # torch comes by Feast, where it is installed
"""
CONFIG = """
project: elsewhere
provider: local
registry: registry.db
offline_store: {type: footpath_feast.asof.AsofOfflineStore}
online_store: {type: footpath_feast.sqlite.SqliteOnlineStore, path: online.db}
entity_key_serialization_version: 3
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for path in [*PLUGIN.glob("*.py"), PLUGIN / "pyproject.toml"]:  # the build leaves files behind
        (source / path.name).write_bytes(path.read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--wheel-dir", folder, source],
        check=True,
    )  # fmt: skip
    (found,) = folder.glob("footpath_feast-*.whl")
    return found


def test_the_wheel_holds_every_module_of_the_plugin_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == {f"footpath_feast/{path.name}" for path in PLUGIN.glob("*.py")}


def test_its_pins_are_those_that_the_repository_is_tested_with():
    known = (REPOSITORY / "requirements.in").read_text()
    named = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]["dependencies"]
    for requirement in named:
        version = requirement.partition("]")[2] or requirement
        assert version.lstrip("abcdefghijklmnopqrstuvwxyz").split(",")[0].lstrip(">=") in known


def test_another_project_reads_and_joins_by_the_wheel_alone(wheel, tmp_path):
    place, project = tmp_path / "site", tmp_path / "project"
    zipfile.ZipFile(wheel).extractall(place)
    project.mkdir()
    (project / "feature_store.yaml").write_text(CONFIG)
    # Neither the folder at hand nor the editable install is seen.
    code = (
        "import pathlib, sys\n"
        "others = [p for p in sys.path if not pathlib.Path(p, 'contracts').is_dir()]\n"
        f"sys.path = [{str(place)!r}, *others]\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", code + ELSEWHERE, place],
        cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "[1] {'user': ['a'], 'n': [2]}"
