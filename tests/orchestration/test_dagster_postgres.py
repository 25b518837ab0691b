"""Dagster's runs and events in PostgreSQL, by the address as people write it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from orchestration.instance import open_instance, prepare_instance
from orchestration.runs.pools import held_pools
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


@pytest.mark.server
def test_one_run_after_another_takes_a_pool_which_keeps_the_limit_that_somebody_gave_it(
    database: str,
):
    with open_instance() as instance:
        storage = instance.event_log_storage
        for run_id in ("first", "second"):
            with held_pools(instance, run_id, ["pool"], print):
                (slot,) = storage.get_concurrency_info("pool").claimed_slots
                assert slot.run_id == run_id
        storage.set_concurrency_slots("pool", 3)
        with held_pools(instance, "third", ["pool"], print):
            assert storage.get_concurrency_info("pool").slot_count == 3


@pytest.mark.server
def test_pools_follow_a_default_limit_that_changes(database: str):
    path = prepare_instance() / "dagster.yaml"
    for limit in (1, 2):
        path.write_text(re.sub(r"default_limit: \d", f"default_limit: {limit}", path.read_text()))
        with open_instance() as instance:
            storage = instance.event_log_storage
            assert storage.initialize_concurrency_limit_to_default("pool")
            assert storage.initialize_concurrency_limit_to_default("pool")
            assert storage.get_concurrency_info("pool").slot_count == limit
