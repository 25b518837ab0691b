"""Days of a shop by themselves on PostgreSQL, Redis and S3, as `footpath production` runs them.

Files come late, broken and in steps; daemon, code server and the process of a run are killed.
"""

import contextlib
import datetime as dt
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from contracts.base.clock import days_between, now
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from features.shop import generate_shop
from features.store.services import known_services
from orchestration.automation.history import RunHistory
from orchestration.automation.plan import make_plan
from orchestration.production.addresses import use_addresses
from orchestration.runs.dead_runs import UNFINISHED
from orchestration.tags import PROCESS, REASON
from tests.builders.outcome import assert_online_is_newest, assert_same_rows, built_at_once
from tests.builders.stack import Stack, open_folder, running, wait_until
from tests.orchestration.automation.simulation import START, copy, fill_hours, shop, spoil
from tests.s3.conftest import forget_connections, new_bucket
from tests.s3.server import moto

pytestmark = [pytest.mark.long, pytest.mark.server, pytest.mark.timeout(1500)]

DAYS = days_between(START, START + dt.timedelta(days=5))
SHOP = Dataset.model_validate(
    shop(every_seconds=5, training={"every_days": 7, "from_days": 3}).model_dump()
    | {"partitions": {"start": DAYS[0], "end": DAYS[-1]}}  # of long ago: no day waits for its end
)
LATE, BROKEN = f"events/{DAYS[1]}/08.jsonl.gz", f"events/{DAYS[2]}/15.jsonl.gz"


def datasets(folder: Path) -> Path:
    """A folder of YAMLs with a shop that is small enough to train on within seconds."""
    folder.mkdir()
    # In its order: that of its properties is theirs in each row.
    text = yaml.safe_dump(SHOP.model_dump(mode="json"), sort_keys=False)
    (folder / "shop.yaml").write_text(text)
    return folder


class Deliveries:
    """A source's folder that gets the files of a shop in steps."""

    def __init__(self, folder: Path) -> None:
        self.shop, self.source = folder / "shop", folder / "source"
        generate_shop(self.shop, users=200, days=len(DAYS))
        fill_hours(self.shop, len(DAYS))
        self.source.mkdir()

    def until(self, day: dt.date) -> list[str]:
        """Names of the files of events up to a day, in order."""
        found = sorted((self.shop / "events").glob("*/*"))
        return [str(f.relative_to(self.shop)) for f in found if f.parent.name <= str(day)]

    def deliver(self, *names: str) -> None:
        for name in names:
            copy(name)(self.shop, self.source)

    def spoil(self, name: str) -> None:
        spoil(name)(self.shop, self.source)


class Onlooker:
    """Looks at the lake and at Dagster's runs as another process of the same home does."""

    def __init__(self, stack: Stack, instance: dg.DagsterInstance) -> None:
        self.stack, self.instance = stack, instance

    def runs(self, stage: str = "") -> list[dg.DagsterRun]:
        """Runs of a stage, or all; newest first."""
        wanted = dg.RunsFilter(job_name=f"shop_{stage}") if stage else None
        return list(self.instance.get_runs(wanted))

    def kill_run(self, stage: str, victim: str = "") -> str:
        """Kills the process of the first run of a stage, or what it is a child of, at work."""
        known = {run.run_id for run in self.runs(stage)}
        found: list[dg.DagsterRun] = []

        def is_at_work() -> bool:
            found[:] = [
                run
                for run in self.runs(stage)
                if run.run_id not in known or not run.is_finished
                if PROCESS in run.tags
            ]
            return bool(found)

        wait_until(is_at_work, self.stack.tail, every=0.05)
        if victim:
            self.stack.kill(victim)
        else:
            os.kill(int(found[0].tags[PROCESS].split("/")[0]), signal.SIGKILL)
        return found[0].run_id

    def wait_until_failed(self, run_id: str) -> None:
        def has_failed() -> bool:
            run = self.instance.get_run_by_id(run_id)
            assert run
            assert not run.is_success, "it was killed too late"
            return run.status == dg.DagsterRunStatus.FAILURE

        wait_until(has_failed, self.stack.tail)

    def is_settled(self) -> bool:
        """Whether nothing is at work, due, or standing still."""
        if self.instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
            return False
        plan = make_plan(SHOP, Lake.of("shop"), now(), RunHistory(self.instance, SHOP))
        return not plan.requests and not plan.notes

    def tell(self) -> str:
        """Runs and notes, for who waits in vain."""
        plan = make_plan(SHOP, Lake.of("shop"), now(), RunHistory(self.instance, SHOP))
        runs = [f"{run.job_name} {run.status.value} {run.tags}" for run in self.runs()]
        asked = [*map(str, plan.requests), *map(str, plan.notes)]
        return "\n".join([*runs, *asked, self.stack.tail()])


@contextlib.contextmanager
def onlooker(stack: Stack) -> Iterator[Onlooker]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in stack.environment.items():
            patch.setenv(name, value)
        use_addresses()
        forget_connections()
        with dg.DagsterInstance.from_config(str(stack.home / "dagster")) as instance:
            yield Onlooker(stack, instance)
    forget_connections()


def test_days_of_a_shop_on_postgresql_redis_and_s3_need_no_hand():
    for program in ("initdb", "redis-server"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not on the PATH")
    with open_folder() as folder, moto() as s3:
        files = Deliveries(folder)
        variables = s3.variables | {
            "FOOTPATH_LAKE": f"{new_bucket(s3).url}/lake",
            "FOOTPATH_SOURCE_SHOP": str(files.source),
            "FOOTPATH_DATASETS": str(datasets(folder / "datasets")),
        }
        with running(folder / "home", **variables) as stack, onlooker(stack) as eyes:
            assert "PostgreSQL: started here" in stack.log.read_text()
            first = [name for name in files.until(DAYS[3]) if name not in (LATE, BROKEN)]
            files.deliver("items.csv", "users.csv", *first)
            files.spoil(BROKEN)
            switched = stack.run("orchestration.cli.main", "automation", "on")
            assert switched.returncode == 0, switched.stderr
            killed = [eyes.kill_run("landing")]
            stack.kill("daemon")
            eyes.wait_until_failed(killed[0])
            files.deliver(LATE)
            killed.append(eyes.kill_run("daily", "code"))
            eyes.wait_until_failed(killed[1])
            files.deliver(BROKEN)
            wait_until(lambda: bool(eyes.runs("pretraining")), eyes.tell, every=1)
            # The late file and the mended one come once more, as they are.
            files.deliver(*(name for name in files.until(DAYS[-1]) if name not in first))
            wait_until(eyes.is_settled, eyes.tell, every=3, seconds=600)
            for run in eyes.runs():
                assert run.tags[REASON]
            logs = (stack.home / "production" / "log" / "code.log").read_text()
            assert "leaked" not in logs  # what DuckDB's binding says of itself, page after page
            lake = Lake.of("shop")
            assert str(lake.root).startswith("s3://")
            at_once = built_at_once(SHOP, files.source, DAYS, folder / "at-once")
            assert_same_rows(SHOP, lake, at_once)
            aliases = known_services(lake).aliases
            assert {"user_behavior", "user_representation", "gender"} <= aliases.keys()
            assert_online_is_newest(SHOP, lake)
