"""Dagster's runs, tags and events in PostgreSQL name no user who was forgotten."""

from pathlib import Path

import dagster as dg
import pytest

from orchestration.forgetting.ids import Ids
from orchestration.forgetting.texts import dagster_texts
from orchestration.instance import open_instance
from tests.builders.planted import PLANTED, logged
from tests.postgres import new_database


@pytest.mark.server
def test_events_and_tags_in_postgres_lose_the_id_and_stay_readable(
    lake_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with new_database() as address:
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", address)
        with open_instance() as instance:
            run = logged.execute_in_process(instance=instance, tags={"asked_for": PLANTED})
            ids = Ids([PLANTED])
            found = dagster_texts(instance, ids, change=False)
            assert found == dagster_texts(instance, ids, change=True) >= 2
            assert dagster_texts(instance, ids, change=False) == 0
            (kept,) = instance.get_runs(dg.RunsFilter(tags={"asked_for": "(forgotten)"}))
            assert kept.run_id == run.run_id
            said = [entry.user_message for entry in instance.all_logs(run.run_id)]
            assert any("(forgotten)" in text and "12 others" in text for text in said)
