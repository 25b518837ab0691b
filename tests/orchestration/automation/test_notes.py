"""What a plan cannot do by itself is told, but for what has an alert of its own."""

import dagster as dg
import pytest

from orchestration.automation.notes import alerts_of, tell
from orchestration.automation.request import Note
from tests.builders.datasets import dataset_like
from tests.builders.receivers import WebhookServer, serving

SHOP = dataset_like("shop")
REFUSED = Note("refused", "landing 2026-01-05", "events/09.jsonl.gz is cut off")


def test_refused_files_partial_days_and_faults_of_a_stage_are_told_and_the_rest_is_not():
    notes = [
        REFUSED,
        Note("refused", "landing 2026-01-05", "events/10.jsonl.gz is cut off"),
        Note("partial", "2026-01-06", "20 of its 24 files are there"),
        Note("failed", "embedding", "no version is finished"),
        Note("failed", "daily 2026-01-07: 1 day is due", "run 1 failed (once)"),
        Note("waits", "2026-01-08", "2 files are there"),
        Note("works", "daily", "run 2 is at work"),
        Note("stopped", "events 2026-01-04", "5 rows break a rule"),
        Note("missing", "2026-01-09", "no file of it has arrived"),
    ]
    found = alerts_of(SHOP, notes)
    assert [(alert.kind, alert.subject) for alert in found] == [
        ("standing_still", "landing 2026-01-05"),
        ("standing_still", "landing 2026-01-05"),
        ("data_missing", "2026-01-06"),
        ("standing_still", "embedding"),
    ]
    assert len({alert.key for alert in found}) == 4


def test_a_partial_day_stays_one_alert_while_its_files_come():
    one, two = (Note("partial", "2026-01-06", f"{n} of its 24 files are there") for n in (20, 21))
    assert alerts_of(SHOP, [one])[0].key == alerts_of(SHOP, [two])[0].key


def test_notes_are_told_once_and_an_address_that_cannot_be_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
):
    hook = WebhookServer()
    monkeypatch.setenv("FOOTPATH_ALERT_WEBHOOK", hook.url)
    with serving(hook), dg.DagsterInstance.ephemeral() as instance:
        for notes in ([REFUSED], [REFUSED], []):
            tell(instance, SHOP, notes)
        monkeypatch.setenv("FOOTPATH_ALERT_WEBHOOK", "nonsense")
        tell(instance, SHOP, [REFUSED])
    assert ["Standing still: landing" in text for text in hook.texts] == [True, False]
    assert "Recovered: landing 2026-01-05" in hook.texts[1]
