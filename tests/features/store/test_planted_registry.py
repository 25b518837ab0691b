"""A registry is read by Footpath only where nothing in it is run as code."""

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from feast import FeatureStore
from feast.protos.feast.core.DataSource_pb2 import DataSource
from feast.protos.feast.core.FeatureView_pb2 import FeatureView
from feast.protos.feast.core.FeatureViewVersion_pb2 import FeatureViewVersionRecord
from feast.protos.feast.core.Registry_pb2 import Registry

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from features.store import apply_registry, check_online, materialize, promote, repository
from features.store.registry_contents import check_registry_file, check_registry_of
from features.store.repository import REGISTRY, open_store
from tests.builders.datasets import shop
from tests.builders.store import small_lake

MODEL = "ptum_bert4rec_v1"
Plant = Callable[[Registry, bytes], object]


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


def on_demand_view(registry: Registry, body: bytes) -> None:
    view = registry.on_demand_feature_views.add()
    view.spec.name, view.spec.project, view.spec.mode = "planted", "shop", "python"
    function = view.spec.feature_transformation.user_defined_function
    # As source, which Feast takes before what is pickled.
    function.name, function.body = "planted", body
    function.body_text = f"def planted(x): return x\n__import__('pickle').loads({body!r})\n"


def stream_view(registry: Registry, body: bytes) -> None:
    view = registry.stream_feature_views.add()
    view.spec.name, view.spec.project = "planted", "shop"
    view.spec.user_defined_function.body = body


def transformation_of_a_view(registry: Registry, body: bytes) -> None:
    view = registry.feature_views[0].spec
    view.name = "planted"
    view.feature_transformation.user_defined_function.body = body


def profiler(registry: Registry, body: bytes) -> None:
    reference = registry.validation_references.add()
    reference.name, reference.project = "planted", "shop"
    reference.ge_profiler.profiler.body = body


def custom_source(registry: Registry, _: bytes) -> None:
    source = registry.feature_views[0].spec.batch_source
    source.name, source.type = "planted", DataSource.CUSTOM_SOURCE
    source.data_source_class_type = "antigravity.Source"


def earlier_view_of_another_kind(registry: Registry, _: bytes) -> None:
    registry.feature_view_version_history.records.add(
        feature_view_name="planted", feature_view_type="on_demand_feature_view"
    )


def earlier_view_with_a_transformation(registry: Registry, body: bytes) -> None:
    view = FeatureView()
    view.spec.name = "planted"
    view.spec.feature_transformation.user_defined_function.body = body
    registry.feature_view_version_history.records.append(
        FeatureViewVersionRecord(
            feature_view_type="feature_view", feature_view_proto=view.SerializeToString()
        )
    )


PLANTS = [
    on_demand_view,
    stream_view,
    transformation_of_a_view,
    profiler,
    custom_source,
    earlier_view_of_another_kind,
    earlier_view_with_a_transformation,
]


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A lake with a registry that Footpath has written."""
    home = tmp_path_factory.mktemp("planted") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOOTPATH_HOME", str(home))
        lake = small_lake(home, (MODEL,))
        promote(shop(), lake, MODEL)
        yield lake


def planted(lake: Lake, plant: Plant, target: Path) -> bytes:
    """The registry of a lake with code that writes the target."""
    registry = Registry.FromString((repository(lake) / REGISTRY).read_bytes())
    plant(registry, pickle.dumps(Bomb(target)))
    return registry.SerializeToString()


@pytest.mark.parametrize("plant", PLANTS)
def test_a_registry_with_code_is_refused_by_the_name_of_what_holds_it(
    applied: Lake, tmp_path: Path, plant: Plant
):
    path, target = tmp_path / REGISTRY, tmp_path / "ran"
    path.write_bytes(planted(applied, plant, target))
    with pytest.raises(FootpathError, match=r"registry\.db holds \w.* 'planted', which"):
        check_registry_file(path, path)
    assert not target.exists()


def test_every_command_refuses_a_registry_with_code_before_it_runs(applied: Lake, tmp_path: Path):
    path, target = repository(applied) / REGISTRY, tmp_path / "ran"
    whole, bad = path.read_bytes(), planted(applied, on_demand_view, target)
    path.write_bytes(bad)
    commands = (apply_registry, materialize, check_online, lambda _, lake: open_store(lake))
    try:
        for command in commands:
            with pytest.raises(FootpathError, match="move it away and materialize"):
                command(shop(), applied)
        assert not target.exists()
        assert path.read_bytes() == bad
        with pytest.raises(ValueError, match="sources"):  # Feast alone runs it, and then complains
            FeatureStore(repo_path=str(path.parent)).list_on_demand_feature_views()
        assert target.exists()
        path.unlink()  # as the sentence advises
        apply_registry(shop(), applied)
        assert {s.name for s in open_store(applied).list_feature_services()} == {
            "user_behavior__v1", "user_representation__v1",
        }  # fmt: skip
    finally:
        path.write_bytes(whole)


def test_code_of_another_project_of_a_shared_registry_is_nobodys_fault(
    applied: Lake, tmp_path: Path
):
    registry = Registry.FromString(planted(applied, on_demand_view, tmp_path / "ran"))
    with pytest.raises(FootpathError, match="FOOTPATH_REGISTRY holds OnDemandFeatureView"):
        check_registry_of(registry, "shop", "FOOTPATH_REGISTRY")
    registry.on_demand_feature_views[0].spec.project = "another"
    check_registry_of(registry, "shop", "FOOTPATH_REGISTRY")


def test_a_file_that_is_no_registry_is_refused(tmp_path: Path):
    path = tmp_path / REGISTRY
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(FootpathError, match="is no registry of Feast"):
        check_registry_file(path, path)
