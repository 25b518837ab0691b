"""A range of days in one run: good days are published and recorded, bad ones neither."""

import datetime as dt
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from orchestration.assets.behavior import behavior_assets
from orchestration.assets.ingestion import ingestion_assets
from orchestration.progress import Progress
from tests.builders.datasets import tiny
from tests.builders.landing import linked

DAYS = ["2026-03-01", "2026-03-02", "2026-03-03"]


def dataset() -> Dataset:
    return tiny(
        partitions={"start": DAYS[0], "end": DAYS[-1]},
        landing={
            "url": "{year}-{month}-{day}.csv",
            "format": "csv",
            "columns": {"who": "VARCHAR", "ts": "VARCHAR", "what": "VARCHAR"},
        },
        events={
            "user_id": "who",
            "timestamp": "TRY_CAST(ts AS TIMESTAMPTZ)",
            "action": "what",
        },
    )


def write(folder: Path, day: str, action: str, users: int = 3) -> None:
    rows = [f"u{n},{day}T10:00:00Z,{action}" for n in range(users)]
    (folder / f"{day}.csv").write_text("\n".join(["who,ts,what", *rows]) + "\n")


@pytest.fixture
def source(tmp_path: Path, lake_home: Path) -> Path:
    return linked(tmp_path / "source", "tiny")


def materialize(instance: dg.DagsterInstance, first: str, last: str) -> dg.ExecuteInProcessResult:
    # Sessions and features come along, so that "nothing downstream of a bad day" is seen too.
    assets = [*ingestion_assets(dataset()), *behavior_assets(dataset())]
    return dg.materialize(
        assets,
        instance=instance,
        resources={"progress": Progress()},
        tags={
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": last,
        },
        raise_on_error=False,
    )


def recorded(instance: dg.DagsterInstance, name: str) -> set[str]:
    return set(instance.get_materialized_partitions(dg.AssetKey(["tiny", name])))


def test_a_bad_day_in_a_range_stops_alone(source):
    for day, action in zip(DAYS, ["view", "explode", "view"], strict=True):
        write(source, day, action)
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize(instance, DAYS[0], DAYS[-1])
        assert not result.success
        assert recorded(instance, "events") == {DAYS[0], DAYS[2]}
        assert recorded(instance, "sessions") == set()
        failure = next(e for e in result.all_events if e.is_step_failure)
        assert "2026-03-02" in failure.step_failure_data.error.to_string()
        (audit,) = [c for c in result.get_asset_check_evaluations() if c.check_name == "audit"]
        (broken,) = audit.metadata["broken rows by rule"].records
        assert broken.data == {"rule": "action_known", "rows": 3}
    assert Lake.of("tiny").days("events") == [dt.date(2026, 3, 1), dt.date(2026, 3, 3)]


def test_a_refused_day_leaves_the_published_one_and_a_mended_day_replaces_it(source):
    lake = Lake.of("tiny")
    path = lake.day("events", dt.date.fromisoformat(DAYS[0]))
    with dg.DagsterInstance.ephemeral() as instance:
        for action, users, success, rows in [
            ("view", 3, True, 3),
            ("explode", 4, False, 3),
            ("view", 5, True, 5),
        ]:
            write(source, DAYS[0], action, users)
            assert materialize(instance, DAYS[0], DAYS[0]).success is success
            assert pq.read_metadata(path).num_rows == rows
        checks = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey(["tiny", "events"]), "audit"), limit=9
        )
        # Dagster notes a plan beside each outcome.
        outcomes = [check.status.value for check in checks if check.status.value != "PLANNED"]
        assert outcomes == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
        latest = instance.fetch_materializations(dg.AssetKey(["tiny", "events"]), limit=1)
        metadata = latest.records[0].asset_materialization.metadata
        assert metadata["dagster/row_count"].value == 5


def test_every_day_of_a_range_keeps_its_own_counts(source):
    for number, day in enumerate(DAYS, start=1):
        write(source, day, "view", users=number)
    with dg.DagsterInstance.ephemeral() as instance:
        assert materialize(instance, DAYS[0], DAYS[-1]).success
        found = instance.fetch_materializations(dg.AssetKey(["tiny", "events"]), limit=3).records
    counts = {
        record.partition_key: record.asset_materialization.metadata["dagster/row_count"].value
        for record in found
    }
    assert counts == dict(zip(DAYS, [1, 2, 3], strict=True))
