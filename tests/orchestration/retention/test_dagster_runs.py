"""Old runs go; no partition looks unbuilt, and no run of another data set is touched."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from contracts.base.clock import now
from contracts.lake.layout import Lake
from orchestration.retention.clean import clean
from orchestration.retention.report import Report
from tests.builders.datasets import shop

DAYS = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-05")
EVENTS, BOARD = dg.AssetKey(["shop", "events"]), dg.AssetKey(["shop", "leaderboard"])


@dg.asset(key=EVENTS, partitions_def=DAYS)
def events(context: dg.AssetExecutionContext) -> None:
    print(context.partition_key)
    if context.run.tags.get("fails"):
        raise ValueError("no")


@dg.asset(key=BOARD)
def leaderboard() -> None: ...


@dg.op
def nothing() -> None: ...


@dg.job(name="ml_100k_landing")
def of_another() -> None:
    nothing()


DEFS = dg.Definitions(
    [events, leaderboard],
    jobs=[
        dg.define_asset_job("shop_daily", [events]),
        dg.define_asset_job("shop_evaluation", [leaderboard]),
        of_another,
    ],
)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield instance


def run(instance: dg.DagsterInstance, job: str, day: str | None = None, **tags: str) -> str:
    done = DEFS.resolve_job_def(job).execute_in_process(
        instance=instance, partition_key=day, tags=tags, raise_on_error=False
    )
    return done.run_id


def after(lake: Lake, instance: dg.DagsterInstance, days: int, **options: bool) -> Report:
    return clean(shop(), lake, instance, now() + dt.timedelta(days=days), **options)


def runs(instance: dg.DagsterInstance) -> set[str]:
    return {run.run_id for run in instance.get_runs()}


def test_every_partition_stays_materialized_and_what_was_done_again_goes(
    lake: Lake, instance: dg.DagsterInstance
):
    again = [run(instance, "shop_daily", "2026-01-01"), run(instance, "shop_evaluation")]
    failed = run(instance, "shop_daily", "2026-01-03", fails="yes")
    retried = run(instance, "shop_daily", "2026-01-04", fails="yes")
    last = [run(instance, "shop_daily", day) for day in ("2026-01-01", "2026-01-02", "2026-01-04")]
    last += [run(instance, "shop_evaluation"), run(instance, "ml_100k_landing")]
    unfinished = instance.create_run_for_job(
        DEFS.resolve_job_def("shop_evaluation"), status=dg.DagsterRunStatus.STARTED
    ).run_id
    assert after(lake, instance, 89).of("removed") == []

    folder = Path(instance.root_directory)
    before = {path.name for path in (folder / "history" / "runs").glob("*.db")}
    told = after(lake, instance, 91, dry_run=True)
    assert runs(instance) == {*again, failed, retried, *last, unfinished}
    report = after(lake, instance, 91)
    assert report.lines == told.lines

    assert instance.get_materialized_partitions(EVENTS) == {
        "2026-01-01",
        "2026-01-02",
        "2026-01-04",
    }
    newest = instance.get_latest_materialization_event(BOARD)
    assert newest
    assert newest.run_id == last[3]
    # The last that tried to make a day that was never made stays: it says why.
    assert runs(instance) == {failed, *last, unfinished}
    gone = before - {path.name for path in (folder / "history" / "runs").glob("*.db")}
    assert gone == {f"{run_id}.db" for run_id in (*again, retried)}
    # What old runs have printed goes, theirs too that stay.
    assert {path.name for path in (folder / "storage").iterdir()} == {last[4]}
    assert instance.all_logs(last[0])
    assert after(lake, instance, 91).of("removed") == []


def test_an_instance_without_runs_has_nothing_to_clean(lake: Lake, instance: dg.DagsterInstance):
    assert [each for each in after(lake, instance, 91).judged if "run" in each.kind] == []
