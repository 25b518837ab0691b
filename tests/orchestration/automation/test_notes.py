"""What a plan cannot do by itself is told, but for what has an alert of its own."""

import dagster as dg
import pytest

from orchestration.alerts.alert import Alert
from orchestration.alerts.sensor import DATA
from orchestration.automation.notes import alerts_of, tell
from orchestration.automation.request import Note, Plan, Request
from tests.builders.datasets import dataset_like
from tests.builders.receivers import WebhookServer, serving

SHOP = dataset_like("shop")
REFUSED = Note("refused", "landing 2026-01-05", "events/09.jsonl.gz is cut off")


def known(notes: list[Note]) -> list[Alert]:
    return [alert for alerts in alerts_of(SHOP, Plan(notes=notes)).values() for alert in alerts]


def test_refused_files_partial_days_and_faults_of_a_stage_are_told_and_the_rest_is_not():
    notes = [
        REFUSED,
        Note("refused", "landing 2026-01-05", "events/10.jsonl.gz is cut off"),
        Note("partial", "2026-01-06", "20 of its 24 files are there"),
        Note("failed", "embedding", "no version is finished"),
        Note("failed", "daily 2026-01-07: 1 day is due", "run 1 failed (once)"),
        Note("waits", "2026-01-08", "2 files are there"),
        Note("stopped", "events 2026-01-04", "5 rows break a rule"),
        Note("missing", "2026-01-09", "no file of it has arrived"),
    ]
    found = known(notes)
    assert [(alert.kind, alert.subject) for alert in found] == [
        ("standing_still", "landing 2026-01-05"),
        ("standing_still", "landing 2026-01-05"),
        ("data_missing", "2026-01-06"),
        ("standing_still", "embedding"),
    ]
    assert len({alert.key for alert in found}) == 4


def test_a_partial_day_stays_one_alert_while_its_files_come():
    one, two = (Note("partial", "2026-01-06", f"{n} of its 24 files are there") for n in (20, 21))
    assert known([one])[0].key == known([two])[0].key


def test_what_a_plan_does_not_look_at_while_something_is_at_work_is_not_taken_for_recovered():
    landing = Plan(notes=[Note("works", "landing", "run 2 is at work")])
    training = Plan(notes=[REFUSED, Note("works", "pretraining", "run 2 is at work")])
    due = Plan([Request("daily", "1 day is due", "k")], [REFUSED])
    unlisted = Plan(notes=[Note("missing", "landing", "the source folder is not there")])
    assert alerts_of(SHOP, landing) == {}
    assert DATA not in alerts_of(SHOP, unlisted)
    assert alerts_of(SHOP, due) == {}
    assert list(alerts_of(SHOP, training)) == [DATA]


def test_notes_are_told_once_and_an_address_that_cannot_be_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
):
    hook = WebhookServer()
    monkeypatch.setenv("FOOTPATH_ALERT_WEBHOOK", hook.url)
    with serving(hook), dg.DagsterInstance.ephemeral() as instance:
        for notes in ([REFUSED], [REFUSED], []):
            tell(instance, SHOP, Plan(notes=notes))
        monkeypatch.setenv("FOOTPATH_ALERT_WEBHOOK", "nonsense")
        tell(instance, SHOP, Plan(notes=[REFUSED]))
    assert ["Standing still: landing" in text for text in hook.texts] == [True, False]
    assert "Recovered: landing 2026-01-05" in hook.texts[1]
