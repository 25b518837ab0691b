"""A failed run is told when nothing will try it again, and is made good by one that builds all."""

import datetime as dt
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from orchestration.alerts.alert import Alert
from orchestration.alerts.lake import stopped
from orchestration.alerts.runs import KEPT, RETRIES_WITHIN, Seen, look
from orchestration.alerts.scopes import RunsOf
from orchestration.assets.ingestion import ingestion_assets
from orchestration.progress import Progress
from orchestration.tags import REQUEST, REQUESTED_AT, range_tags
from orchestration.write_audit_publish import days_check
from tests.builders.datasets import dataset_like
from tests.builders.landing import Source, row

SHOP = dataset_like("shop")
FAULT: dict[str, Exception | None] = {"events": None}
CHECK: dict[str, dg.AssetCheckResult] = {}

DAYS = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-02-01")


@dg.asset(
    key=["shop", "events"],
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[dg.AssetCheckSpec("promotion", asset=["shop", "events"])],
)
def events() -> Iterator:
    if FAULT["events"]:
        raise FAULT["events"]
    yield dg.MaterializeResult()
    yield CHECK.get("promotion", dg.AssetCheckResult(passed=True))


@dg.asset(key=["shop", "flaky"], retry_policy=dg.RetryPolicy(max_retries=2))
def flaky(context: dg.AssetExecutionContext) -> None:
    if context.op_execution_context.retry_number < 2:
        raise FootpathError("not yet")


@dg.op
def stages() -> None:
    raise FootpathError("the file of 2026-01-05 is broken")


@dg.job(name="shop_chain")
def chain() -> None:
    stages()


DEFS = dg.Definitions(
    assets=[events, flaky],
    jobs=[
        dg.define_asset_job("shop_daily", selection=["shop/events"]),
        dg.define_asset_job("shop_flaky", selection=["shop/flaky"]),
        dg.define_asset_job("other_daily", selection=["shop/events"]),
        chain,
    ],
)
RUNS = RunsOf(
    SHOP, {"shop_daily": frozenset({"shop/events"}), "shop_flaky": frozenset({"shop/flaky"}),
           "shop_chain": frozenset()},
)  # fmt: skip


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    retries = {"enabled": True, "max_retries": 2, "retry_on_asset_or_op_failure": False}
    with dg.DagsterInstance.ephemeral(settings={"run_retries": retries}) as instance:
        yield instance


@pytest.fixture(autouse=True)
def all_is_well() -> None:
    FAULT["events"] = None
    CHECK.clear()


class Watch:
    """Runs jobs, and looks at what is wrong after each."""

    def __init__(self, instance: dg.DagsterInstance, runs: RunsOf = RUNS) -> None:
        self.instance, self.runs = instance, runs
        self.cursor: str | None = None
        self.look()

    def run(self, job: str, first: str = "", last: str = "", **fields: Any) -> str:
        tags = range_tags(first, last or first) if first else {}
        made = DEFS.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            tags=tags | fields.pop("tags", {}),
            **fields,
        )
        return made.run_id

    def look(self, later: float = 10.0) -> list[Alert]:
        """What is wrong so many seconds from now."""
        at = time.time() + later
        seen = Seen.of(self.cursor, time.time() - 1.0)
        look(self.instance, self.runs, seen, at)
        seen.since = min(seen.since, time.time())  # the runs go by the true time
        self.cursor = seen.cursor()
        return seen.alerts()

    def subjects(self, later: float = 10.0) -> list[str]:
        return [alert.subject for alert in self.look(later)]


@pytest.fixture
def watch(instance: dg.DagsterInstance) -> Watch:
    return Watch(instance)


def test_a_failure_is_told_by_the_sentence_of_its_first_failed_step_with_a_link(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FOOTPATH_UI_URL", "http://127.0.0.1:3000")
    FAULT["events"] = FootpathError("events/2026-01-05/09.jsonl.gz is cut off: send it again")
    run_id = watch.run("shop_daily", "2026-01-05", "2026-01-06")
    assert watch.look(later=0.0) == []  # Dagster may still be about to try it again
    (alert,) = watch.look()
    assert alert.kind == "run_failed"
    assert alert.subject == "shop_daily of 2026-01-05 to 2026-01-06"
    assert alert.text == "events/2026-01-05/09.jsonl.gz is cut off: send it again"
    assert alert.link == f"http://127.0.0.1:3000/runs/{run_id}"


def test_retries_of_steps_that_come_through_and_runs_of_others_are_not_told(watch: Watch):
    watch.run("shop_flaky")
    FAULT["events"] = FootpathError("no")
    ml = RunsOf(dataset_like("ml-100k"), {"ml_100k_daily": frozenset()})
    watch.run("shop_daily", "2026-01-05")
    assert Watch(watch.instance, ml).subjects() == []
    assert watch.subjects() == ["shop_daily of 2026-01-05"]


def test_of_a_run_that_is_tried_again_only_the_last_attempt_is_told(watch: Watch):
    FAULT["events"] = ConnectionError("no route")
    run = watch.run("shop_daily", "2026-01-05")
    retry = watch.instance.create_run_for_job(
        DEFS.resolve_job_def("shop_daily"),
        tags=range_tags("2026-01-05", "2026-01-05"),
        status=dg.DagsterRunStatus.STARTED,
        parent_run_id=run,
        root_run_id=run,
    )
    assert watch.subjects() == []
    assert watch.subjects(later=3600.0) == []
    found = watch.instance.get_run_by_id(retry.run_id)
    assert found
    watch.instance.report_run_failed(found, "Its process was killed.")
    assert watch.subjects() == []  # killed: somebody may ask again
    (alert,) = watch.look(later=RETRIES_WITHIN + 10)
    assert (alert.subject, alert.text) == ("shop_daily of 2026-01-05", "Its process was killed.")


@pytest.mark.parametrize(
    ("fault", "minutes", "told"),
    [
        (ConnectionError("no route"), 5, False),
        (ConnectionError("no route"), 30, True),
        (FootpathError("broken"), 5, True),
    ],
)
def test_a_requested_run_that_failed_in_passing_is_told_if_it_is_not_requested_again(
    watch: Watch, fault: Exception, minutes: int, told: bool
):
    FAULT["events"] = fault
    asked = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=minutes)
    watch.run("shop_daily", "2026-01-05", tags={REQUEST: "k", REQUESTED_AT: asked.isoformat()})
    assert bool(watch.look(later=100.0)) == told


def test_a_killed_run_that_is_asked_for_again_and_comes_through_is_never_told(watch: Watch):
    killed = watch.instance.create_run_for_job(
        DEFS.resolve_job_def("shop_daily"),
        tags=range_tags("2026-01-05", "2026-01-05"),
        status=dg.DagsterRunStatus.STARTED,
    )
    watch.instance.report_run_failed(killed, "Its process was killed.")
    assert watch.subjects() == []
    watch.run("shop_daily", "2026-01-01", "2026-01-10")
    assert watch.subjects(later=RETRIES_WITHIN + 10) == []


def test_a_process_that_was_found_dead_is_told_as_whoever_found_it_says(watch: Watch):
    run = watch.instance.create_run_for_job(
        DEFS.resolve_job_def("shop_flaky"), status=dg.DagsterRunStatus.STARTED
    )
    said = "[DagsterApiServer] Run execution process was terminated by signal 9 (SIGKILL)."
    watch.instance.report_engine_event(said, run)
    watch.instance.report_run_failed(run)
    (alert,) = watch.look(later=RETRIES_WITHIN + 10)
    assert alert.text == "Run execution process was terminated by signal 9 (SIGKILL)."


def test_a_failure_ends_when_later_runs_have_built_all_of_its_days(watch: Watch):
    FAULT["events"] = FootpathError("no")
    watch.run("shop_daily", "2026-01-05", "2026-01-07")
    assert watch.subjects() == ["shop_daily of 2026-01-05 to 2026-01-07"]
    FAULT["events"] = None
    watch.run("shop_daily", "2026-01-05")
    watch.run("shop_daily", "2026-01-07", "2026-01-08")
    assert len(watch.look()) == 1
    watch.run("other_daily", "2026-01-06", asset_selection=[dg.AssetKey(["shop", "events"])])
    assert watch.look() == []


def test_the_same_failure_again_has_the_same_key_and_cause_and_another_one_another_cause(
    watch: Watch,
):
    FAULT["events"] = FootpathError("row 17 of 2026-01-05 is broken")
    watch.run("shop_daily", "2026-01-05")
    (first,) = watch.look()
    FAULT["events"] = FootpathError("row 18 of 2026-01-05 is broken")
    watch.run("shop_daily", "2026-01-05")
    (again,) = watch.look()
    FAULT["events"] = FootpathError("no disk")
    watch.run("shop_daily", "2026-01-05")
    (other,) = watch.look()
    assert (first.key, first.cause) == (again.key, again.cause)
    assert other.key == first.key
    assert other.cause != first.cause


def test_a_job_of_jobs_is_not_told_beside_the_job_that_failed_in_it(watch: Watch):
    FAULT["events"] = FootpathError("the file of 2026-01-05 is broken")
    watch.run("shop_daily", "2026-01-05")
    watch.run("shop_chain")
    assert watch.subjects() == ["shop_daily of 2026-01-05"]


def test_a_job_of_jobs_that_fails_by_itself_is_told(watch: Watch):
    watch.run("shop_chain")
    assert watch.subjects() == ["shop_chain"]


@pytest.mark.parametrize("warnings", [False, True])
def test_failed_checks_are_told_and_warnings_only_where_the_yaml_asks(
    instance: dg.DagsterInstance, warnings: bool
):
    dataset = dataset_like("shop", automation={"alerts": {"warnings": warnings}})
    watch = Watch(instance, RunsOf(dataset, RUNS.jobs))
    warn = dg.AssetCheckSeverity.WARN
    CHECK["promotion"] = dg.AssetCheckResult(passed=False, severity=warn, description="strange")
    watch.run("shop_daily", "2026-01-05")
    assert watch.subjects() == (["promotion of shop/events"] if warnings else [])
    CHECK["promotion"] = dg.AssetCheckResult(passed=False, description="coverage is 0.3")
    watch.run("shop_daily", "2026-01-05")
    (alert,) = watch.look()
    assert (alert.kind, alert.subject) == ("check_failed", "promotion of shop/events")
    assert alert.text == "coverage is 0.3"
    CHECK.clear()
    watch.run("shop_daily", "2026-01-05")
    assert watch.look() == []


def test_what_nothing_made_good_is_forgotten_after_a_month_and_memory_is_bounded(watch: Watch):
    FAULT["events"] = FootpathError("no")
    for day in range(1, 4):
        watch.run("shop_daily", f"2026-01-0{day}")
    assert len(watch.look()) == 3
    assert len(watch.cursor or "") < 5000
    assert watch.look(later=KEPT + 100) == []


def gated(dataset: Any, instance: dg.DagsterInstance) -> Callable[..., bool]:
    """Runs landing and events of the shop over a range of days, through the gate."""
    assets = ingestion_assets(dataset)
    names = {"landing": ["landing"], "daily": ["events"]}
    defs = dg.Definitions(
        assets=assets,
        asset_checks=[days_check(dataset, ["events"])],
        jobs=[
            dg.define_asset_job(f"shop_{job}", selection=[f"shop/{name}" for name in of])
            for job, of in names.items()
        ],
        resources={"progress": Progress()},
    )

    def run(first: str, last: str) -> bool:
        for job in names:
            made = defs.resolve_job_def(f"shop_{job}").execute_in_process(
                instance=instance, raise_on_error=False, tags=range_tags(first, last)
            )
        return made.success

    return run


def test_a_run_that_failed_for_stopped_days_alone_is_told_only_where_these_are_not(
    instance: dg.DagsterInstance, lake: Lake, tmp_path: Path
):
    watch = Watch(instance)
    runs_alone = dataset_like("shop", automation={"alerts": {"kinds": ["run_failed"]}})
    other = Watch(instance, RunsOf(runs_alone, RUNS.jobs))
    run = gated(SHOP, instance)
    source = Source(tmp_path / "source")
    good = [row(f"g{n}", "2026-01-04T12:00:00Z") for n in range(5)]
    source.write("2026-01-04/13", *good)
    bad = [row(f"b{n}", "2026-01-05T12:00:00Z", type="explode") for n in range(5)]
    source.write("2026-01-05/13", *bad)
    assert not run("2026-01-04", "2026-01-05")
    assert watch.look() == []
    (day,) = stopped(lake)
    assert (day.kind, day.subject) == ("day_stopped", "events of 2026-01-05")
    (failed,) = other.look()
    assert failed.subject == "shop_daily of 2026-01-04 to 2026-01-05"
    for text in (day.text, failed.text):
        assert "action_known" in text
        assert "explode" not in text  # values of rows stay in the house
    # Alone in its run, it is told no other way.
    assert not run("2026-01-05", "2026-01-05")
    assert watch.look() == []
    source.write("2026-01-05/13", *[row(f"b{n}", "2026-01-05T12:00:00Z") for n in range(5)])
    assert run("2026-01-05", "2026-01-05")
    assert (watch.look(), stopped(lake)) == ([], [])
