"""Each receiver is told once of a cause and once of its end, whatever fails in between."""

import datetime as dt

import dagster as dg
import pytest

from orchestration.alerts.alert import Alert
from orchestration.alerts.delivery import MOST, deliver, failing
from tests.builders.datasets import dataset_like
from tests.builders.receivers import MailServer, WebhookServer

SHOP = dataset_like("shop")
NOON = dt.datetime(2026, 2, 1, 12, tzinfo=dt.UTC)


def missing(day: int, **fields: object) -> Alert:
    name = f"2026-01-{day:02}"
    return Alert("data_missing", name, "no file", f"missing/{name}", **fields)


@pytest.fixture
def tell(instance: dg.DagsterInstance):
    """Delivers a list of alerts of one source, so many minutes after noon."""

    def tell(*alerts: Alert, minutes: float = 0, dataset=SHOP, source: str = "days") -> str:
        at = NOON + dt.timedelta(minutes=minutes)
        return deliver(instance, dataset, {source: alerts}, at)

    return tell


def test_what_is_wrong_is_told_once_and_its_end_once(tell, webhook: WebhookServer):
    assert tell(missing(1), missing(2)) == "webhook: told 2 new, 0 recovered"
    assert tell(missing(1), missing(2)) == "nothing new is wrong"
    assert tell(missing(2), missing(3)) == "webhook: told 1 new, 1 recovered"
    assert tell() == "webhook: told 0 new, 2 recovered"
    assert tell() == "nothing new is wrong"
    first, second, third = webhook.texts
    assert first.splitlines()[0] == "*Synthetic shop (shop): 2 x data missing*"
    assert "*Data missing: 2026-01-03*" in second
    assert "*Recovered: 2026-01-01*" in second
    assert "2026-01-02" not in second
    assert third.splitlines()[0] == "*Synthetic shop (shop): 2 recovered*"


def test_another_cause_of_the_same_subject_is_told_again_without_a_recovery(
    tell, webhook: WebhookServer
):
    tell(Alert("run_failed", "shop_daily", "no memory", "run/1", cause="memory"))
    tell(Alert("run_failed", "shop_daily", "no memory, 2nd time", "run/1", cause="memory"))
    tell(Alert("run_failed", "shop_daily", "no disk", "run/1", cause="disk"))
    assert ["no disk" in text for text in webhook.texts] == [False, True]
    assert "Recovered" not in webhook.texts[1]


def test_a_receiver_that_fails_is_asked_later_and_later_and_loses_nothing(
    tell, webhook: WebhookServer
):
    webhook.status, webhook.answer = 503, b""
    assert tell(missing(1)) == "webhook answered 503; 1 alerts wait until 12:01:00 UTC"
    assert tell(missing(1), missing(2), minutes=0.5).startswith("webhook answered 503; 2 alerts")
    assert webhook.asked == 1
    assert tell(missing(1), missing(2), minutes=1).endswith("2 alerts wait until 12:03:00 UTC")
    # The first is well again before anybody could be told: it is told all the same.
    assert tell(missing(2), minutes=3).endswith("2 alerts wait until 12:07:00 UTC")
    webhook.status = 200
    assert tell(missing(2), minutes=7) == "webhook: told 2 new, 0 recovered"
    (text,) = webhook.texts
    assert "*Data missing: 2026-01-02*" in text
    assert "*Data missing, and well again: 2026-01-01*" in text
    assert tell(missing(2), minutes=8) == "nothing new is wrong"


def test_waiting_ends_at_an_hour_and_is_as_long_as_the_receiver_asks(
    tell, webhook: WebhookServer, instance: dg.DagsterInstance
):
    webhook.status, webhook.headers = 429, {"Retry-After": "600"}
    assert tell(missing(1)).endswith("until 12:10:00 UTC")
    assert failing(instance, SHOP, ["days"]) == ["webhook answered 429 ok"]
    webhook.headers = {}
    for n in range(1, 12):
        said = tell(missing(1), minutes=100 * n)
    assert said.endswith("until 07:20:00 UTC")  # 18 h 20 min after noon, and one more hour
    webhook.status = 200
    tell(missing(1), minutes=2000)
    assert failing(instance, SHOP, ["days"]) == []


def test_one_receiver_that_fails_does_not_keep_the_other_from_being_told(
    tell, webhook: WebhookServer, mails: MailServer
):
    webhook.status, webhook.answer = 500, b""
    said = tell(missing(1))
    assert said == (
        "webhook answered 500; 1 alerts wait until 12:01:00 UTC; e-mail: told 1 new, 0 recovered"
    )
    webhook.status = 200
    assert tell(missing(1), minutes=2) == "webhook: told 1 new, 0 recovered"
    assert (len(webhook.bodies), len(mails.mails)) == (1, 1)


def test_what_comes_and_goes_while_a_receiver_is_away_is_not_told_as_two_things(
    tell, webhook: WebhookServer
):
    tell(missing(1))
    webhook.status = 503
    tell(minutes=1)  # well again, and nobody can be told
    webhook.status = 200
    assert tell(missing(1), minutes=5) == "nothing new is wrong"
    assert tell(minutes=6) == "webhook: told 0 new, 1 recovered"


def test_what_is_not_looked_at_any_more_is_forgotten_and_not_told_as_recovered(
    tell, webhook: WebhookServer
):
    old = missing(1, expires=(NOON + dt.timedelta(hours=1)).timestamp())
    tell(old)
    assert tell(minutes=61) == "nothing new is wrong"
    assert len(webhook.bodies) == 1


def test_kinds_that_the_yaml_leaves_out_are_not_told_and_not_told_as_recovered(
    tell, webhook: WebhookServer
):
    tell(missing(1))
    quiet = dataset_like("shop", automation={"alerts": {"kinds": ["run_failed"]}})
    assert tell(missing(1), missing(2), dataset=quiet) == "nothing new is wrong"
    assert len(webhook.bodies) == 1


def test_sources_and_data_sets_do_not_take_each_other_s_alerts_for_recovered(
    tell, webhook: WebhookServer
):
    tell(missing(1))
    tell(Alert("standing_still", "sessions", "waits", "s"), source="automation")
    tell(missing(1), dataset=dataset_like("ml-100k"))
    assert tell(missing(1)) == "nothing new is wrong"
    assert not any("Recovered" in text for text in webhook.texts)


def test_memory_is_bounded_and_what_is_beyond_comes_later(tell, webhook: WebhookServer):
    many = [Alert("data_missing", f"day {n}", "no file", f"missing/{n}") for n in range(MOST + 7)]
    assert tell(*many) == f"webhook: told {MOST} new, 0 recovered"
    assert tell(*many[10:]) == "webhook: told 0 new, 10 recovered"
    assert tell(*many[10:]) == "webhook: told 7 new, 0 recovered"
    assert len(webhook.bodies) == 3


def test_secrets_in_a_sentence_are_neither_told_nor_kept(
    tell, webhook: WebhookServer, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FOOTPATH_REDIS_PASSWORD", "hunter2222")
    tell(Alert("run_failed", "x", "redis://u:topsecret@h and hunter2222 failed", "run/1"))
    key = "footpath/alerts/shop/days"
    kept = instance.daemon_cursor_storage.get_cursor_values({key})[key]
    for text in (kept, webhook.texts[0]):
        assert "redis://***@h and *** failed" in text
        assert "topsecret" not in text
