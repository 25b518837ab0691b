"""The sensor does nothing without an address, and what fails in it stops nothing else."""

import datetime as dt
from pathlib import Path

import dagster as dg
import pytest

from contracts.lake.layout import Lake
from orchestration.alerts import runs
from orchestration.alerts import sensor as module
from orchestration.alerts.sensor import NOBODY, alerts_sensor
from tests.builders.datasets import dataset_like
from tests.builders.landing import Source, row
from tests.builders.receivers import WebhookServer
from tests.orchestration.alerts.test_lake import publish, stop

SHOP = dataset_like("shop")
NOW = dt.datetime(2026, 1, 6, 12, tzinfo=dt.UTC)


BROKEN = {"tables": True}


@dg.op
def fails() -> None:
    if BROKEN["tables"]:
        raise RuntimeError("postgresql://me:topsecret@host is gone")


@dg.job(name="shop_tables")
def tables() -> None:
    fails()


class Ticks:
    """Ticks of the sensor, each with the cursor of the one before."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.sensor = alerts_sensor(SHOP)
        self.cursor: str | None = None

    def __call__(self) -> str:
        context = dg.build_sensor_context(self.instance, cursor=self.cursor)
        result = self.sensor(context)
        assert isinstance(result, dg.SensorResult)
        assert result.skip_reason
        self.cursor = result.cursor
        return result.skip_reason.skip_message or ""


@pytest.fixture
def tick(instance: dg.DagsterInstance, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Ticks:
    monkeypatch.setattr(module, "now", lambda: NOW)
    return Ticks(instance)


def test_without_an_address_nothing_is_done_and_it_is_on_by_default(tick: Ticks):
    assert tick() == NOBODY
    assert tick.cursor is None
    assert tick.sensor.default_status == dg.DefaultSensorStatus.RUNNING


def test_an_address_that_cannot_be_is_told_in_the_tick(
    tick: Ticks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FOOTPATH_ALERT_WEBHOOK", "http://example.org/topsecret")
    assert tick().startswith("FOOTPATH_ALERT_WEBHOOK begins with http://")


def test_missing_and_stopped_days_are_one_message_and_told_once(
    tick: Ticks, webhook: WebhookServer, lake: Lake, tmp_path: Path
):
    Source(tmp_path / "source").write("2026-01-03/13", row("a", "2026-01-03T12:00:00Z"))
    publish(lake, 1, 2)
    stop(lake, "events", 3)
    assert tick() == "webhook: told 3 new, 0 recovered"
    assert tick() == "nothing new is wrong"
    (text,) = webhook.texts
    for subject in ("Day stopped: events of 2026-01-03", "Data missing: 2026-01-04",
                    "Data missing: 2026-01-05"):  # fmt: skip
        assert subject in text


def test_a_source_that_cannot_be_listed_is_told_in_the_tick_and_the_rest_goes_on(
    tick: Ticks, webhook: WebhookServer, lake: Lake, tmp_path: Path
):
    source = Source(tmp_path / "source")
    source.write("2026-01-03/13", row("a", "2026-01-03T12:00:00Z"))
    publish(lake, 1, 2, 3, 4)
    assert tick() == "webhook: told 1 new, 0 recovered"
    source.folder.rename(tmp_path / "elsewhere")
    stop(lake, "events", 2)
    said = tick()
    assert said.startswith("webhook: told 1 new, 0 recovered; not known what is missing: ")
    assert "Recovered" not in "".join(webhook.texts)


def test_a_failure_is_told_once_over_all_its_runs_without_its_secret_and_so_is_its_end(
    instance: dg.DagsterInstance, lake: Lake, webhook: WebhookServer,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setattr(runs, "SETTLING", 0.0)
    tick = Ticks(instance)
    assert tick() == "nothing new is wrong"
    said = []
    for n in range(1, 5):
        BROKEN["tables"] = n < 4
        tables.execute_in_process(instance=instance, raise_on_error=False)
        said.append(tick())
    nothing = "nothing new is wrong"
    told, recovered = "webhook: told 1 new, 0 recovered", "webhook: told 0 new, 1 recovered"
    assert said == [told, nothing, nothing, recovered]
    text, end = webhook.texts
    assert "Recovered: shop_tables" in end
    assert "Run failed: shop_tables*: postgresql://***@host is gone" in text
    assert "topsecret" not in text + str(tick.cursor)
