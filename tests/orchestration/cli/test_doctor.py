"""`footpath doctor` names what is wrong, says what to do, and shows no secret."""

import os
from pathlib import Path

import dagster as dg
import dagster_postgres.utils
import pytest
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from typer.testing import CliRunner

from orchestration.alerts.alert import Alert
from orchestration.alerts.delivery import deliver
from orchestration.assets.ingestion import ingestion_assets
from orchestration.cli import doctor
from orchestration.cli.main import app
from orchestration.instance import open_instance
from orchestration.progress import Progress
from orchestration.runs.dead_runs import process_tags
from orchestration.tags import BOOT
from tests.builders.datasets import dataset_like
from tests.builders.landing import Source, row

NOON = "2026-01-05T12:00:00Z"


@pytest.fixture(autouse=True)
def own_home(lake_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    for name in list(os.environ):
        if name.startswith(("FOOTPATH_ALERT", "FOOTPATH_SMTP", "FOOTPATH_UI")):
            monkeypatch.delenv(name)
    for name in ("DAGSTER_POSTGRES_URL", "FOOTPATH_REGISTRY", "FOOTPATH_ONLINE_STORE"):
        monkeypatch.delenv(name, raising=False)
    # What this machine has to spare is not the matter here.
    monkeypatch.setattr(doctor, "MIN_DISK", 0)
    monkeypatch.setattr(doctor, "MIN_MEMORY", 0)


def run_doctor() -> tuple[int, str]:
    result = CliRunner().invoke(app, ["doctor"], catch_exceptions=False)
    return result.exit_code, result.output


def test_of_a_fresh_home_there_is_nothing_to_do_and_the_version_is_the_installed_one():
    code, said = run_doctor()
    assert (code, said.splitlines()[-1]) == (0, "nothing to do"), said
    shown = CliRunner().invoke(app, ["--version"])
    assert shown.output == f"footpath {doctor.version()}\n"


def test_services_that_do_not_answer_are_named_by_address_and_their_passwords_are_not_shown(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("FOOTPATH_REGISTRY", "postgresql://me:topsecret@127.0.0.1:1/features")
    monkeypatch.setenv("FOOTPATH_ONLINE_STORE", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("FOOTPATH_REDIS_PASSWORD", "topsecret")
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql://me:topsecret@127.0.0.1:1/dagster")
    # Dagster tries five times more, and waits longer each time.
    monkeypatch.setattr(dagster_postgres.utils, "calculate_delay", lambda **_: 0.0)
    code, said = run_doctor()
    assert code == 1
    assert said.count("127.0.0.1:1, with a password: does not answer") == 3
    assert "cannot be opened" in said
    assert "topsecret" not in said


def test_dead_and_waiting_runs_and_a_daemon_that_is_wanted_are_named(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(doctor, "QUEUED_TOO_LONG", -1.0)

    @dg.job
    def nothing() -> None: ...

    run_id = "6f0b2a1e-0000-4000-8000-000000000000"
    with open_instance() as instance:
        tags = process_tags(run_id) | {BOOT: "an earlier start"}
        instance.create_run_for_job(
            nothing, run_id=run_id, tags=tags, status=dg.DagsterRunStatus.STARTED
        )
        location = RegisteredCodeLocationOrigin("footpath")
        origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "footpath"), "nothing")
        instance.create_run_for_job(
            nothing, status=dg.DagsterRunStatus.QUEUED, remote_job_origin=origin
        )
    code, said = run_doctor()
    assert code == 1
    assert f"dead runs: The process of run {run_id}" in said
    assert "queue: 0 runs started, 1 queued" in said
    assert "the queue wait for it" in said
    assert "dead runs: none" in run_doctor()[1]


def test_of_a_linked_data_set_files_days_and_what_stands_still_are_named(tmp_path: Path):
    source = Source(tmp_path / "source")
    source.write("2026-01-05/13", row("a", NOON), row("b", NOON, type="explode"))
    source.write("2026-01-06/13", row("c", "2026-01-06T12:00:00Z"))
    _, said = run_doctor()
    assert "shop: 2 files, the last of 2026-01-06" in said
    assert (
        "shop, due: landing 2026-01-05 to 2026-01-06: events/2026-01-05/13.jsonl.gz and 1" in said
    )
    dg.materialize(
        ingestion_assets(dataset_like("shop")),
        selection=[dg.AssetKey(["shop", "landing"]), dg.AssetKey(["shop", "events"])],
        partition_key="2026-01-05",
        resources={"progress": Progress()},
        raise_on_error=False,
    )
    code, said = run_doctor()
    assert code == 1
    assert "shop, due: landing 2026-01-06: events/2026-01-06/13.jsonl.gz is new" in said
    assert "shop, stopped: events 2026-01-05: 1 of 2 rows are broken" in said
    assert "mend the source or the thresholds of the YAML: it is then built again" in said


def test_who_is_told_is_named_without_an_address_and_what_is_wrong_with_it(
    monkeypatch: pytest.MonkeyPatch,
):
    assert "alerts: nobody is told" in run_doctor()[1]
    monkeypatch.setenv("FOOTPATH_ALERT_WEBHOOK_SHOP", "https://hooks.slack.com/topsecret")
    code, said = run_doctor()
    assert code == 0
    assert "alerts: webhook (Slack); nobody of eshop-2008" in said
    monkeypatch.setenv("FOOTPATH_ALERT_WEBHOOK", "topsecret")
    monkeypatch.setenv("FOOTPATH_ALERT_WEBHOOK_SHOPP", "https://hooks.slack.com/topsecret")
    code, wrong = run_doctor()
    assert code == 1
    assert "alerts: FOOTPATH_ALERT_WEBHOOK is no address of a webhook" in wrong
    assert "alerts: FOOTPATH_ALERT_WEBHOOK_SHOPP is of no data set" in wrong
    assert "topsecret" not in said + wrong


def test_a_receiver_that_does_not_take_alerts_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FOOTPATH_ALERT_WEBHOOK", "http://127.0.0.1:1/topsecret")
    alert = Alert("data_missing", "2026-01-05", "no file", "missing/2026-01-05")
    with open_instance() as instance:
        deliver(instance, dataset_like("shop"), {"missing": [alert]})
    code, said = run_doctor()
    assert code == 1
    assert "alerts of shop: webhook does not answer (ConnectionRefusedError)" in said
