"""Dagster's runs and events in PostgreSQL, by the address as people write it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from orchestration.instance import open_instance, prepare_instance
from tests.conftest import REPOSITORY
from tests.postgres import new_database

ELSEWHERE = """
from orchestration.instance import open_instance
with open_instance() as instance:
    (run,) = instance.get_runs()
    steps = [record.event_log_entry.step_key for record in
             instance.get_records_for_run(run.run_id).records]
    print(run.status.value, type(instance.run_storage).__name__, "small" in steps)
"""


@pytest.fixture
def database(lake_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database of the test's own, which DAGSTER_POSTGRES_URL points at."""
    with new_database() as address:
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", address)
        yield address


@pytest.mark.server
def test_a_run_is_recorded_in_postgres_and_seen_by_another_process(database: str):
    @dg.asset
    def small() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={"dagster/row_count": 3})

    with open_instance() as instance:
        assert dg.materialize([small], instance=instance).success
        assert instance.get_latest_materialization_event(dg.AssetKey("small"))
    seen = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ELSEWHERE],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen.stdout.split() == ["SUCCESS", "PostgresRunStorage", "True"]
    assert not list(Path(os.environ["DAGSTER_HOME"]).rglob("*.db"))


def test_a_home_of_sqlite_is_switched_to_postgres_and_a_dagster_yaml_of_ones_own_is_not(
    lake_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.delenv("DAGSTER_POSTGRES_URL", raising=False)
    path = prepare_instance() / "dagster.yaml"
    assert "PostgresStorage" not in path.read_text()
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql://somewhere/dagster")
    prepare_instance()
    assert "PostgresStorage" in path.read_text()
    path.write_text("telemetry: {enabled: false}\n")
    prepare_instance()
    assert path.read_text() == "telemetry: {enabled: false}\n"
