"""Addresses come from the environment, are checked in a sentence, and are never shown."""

import socket

import pytest

from contracts.base.errors import FootpathError
from orchestration.alerts import receivers
from orchestration.alerts.alert import redacted
from orchestration.alerts.messages import Line, Message
from orchestration.alerts.receivers import UnsentError, link_to_run, receivers_of
from tests.builders.datasets import dataset_like
from tests.builders.receivers import MailServer, WebhookServer

SHOP = dataset_like("shop")
MESSAGE = Message("Shop: a test", (Line("Nothing is wrong", "all is well"),))


def test_nobody_is_told_where_the_environment_has_no_address():
    assert receivers_of(SHOP) == []


@pytest.mark.parametrize(
    ("url", "form"),
    [
        ("https://hooks.slack.com/services/T0/B0/x", "slack"),
        ("https://prod-23.westeurope.logic.azure.com:443/workflows/1/triggers", "teams"),
        ("https://e1.d2.environment.api.powerplatform.com/powerautomate/automations", "teams"),
        ("https://corp.webhook.office.com/webhookb2/1", "teams"),
        ("https://logic.azure.com.evil.example/1", "slack"),
    ],
)
def test_the_form_of_messages_follows_the_address(
    url: str, form: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FOOTPATH_ALERT_WEBHOOK", url)
    assert [found.form for found in receivers_of(SHOP)] == [form]
    asked = dataset_like("shop", automation={"alerts": {"webhook": "teams"}})
    assert [found.form for found in receivers_of(asked)] == ["teams"]


def test_a_data_set_may_have_a_webhook_of_its_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FOOTPATH_ALERT_WEBHOOK", "https://one.example.org/x")
    monkeypatch.setenv("FOOTPATH_ALERT_WEBHOOK_ML_100K", "https://two.example.org/x")
    assert [each.url for each in receivers_of(SHOP)] == ["https://one.example.org/x"]
    assert [r.url for r in receivers_of(dataset_like("ml-100k"))] == ["https://two.example.org/x"]


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("FOOTPATH_ALERT_WEBHOOK", "topsecret", "is no address of a webhook"),
        ("FOOTPATH_ALERT_WEBHOOK", "https://u:topsecret@host/x", "is no address of a webhook"),
        ("FOOTPATH_ALERT_WEBHOOK", "https://host:topsecret/x", "is no address"),
        ("FOOTPATH_ALERT_WEBHOOK", "http://host.example/topsecret", "use https"),
        ("FOOTPATH_ALERT_WEBHOOK_SHOP", "ftp://host.example/topsecret", "is no address of a"),
        ("FOOTPATH_ALERT_EMAIL_TO", "topsecret", "is no e-mail address"),
        ("FOOTPATH_ALERT_EMAIL_FROM", "", "is set and FOOTPATH_ALERT_EMAIL_FROM is not"),
        ("FOOTPATH_SMTP_URL", "", "is set and FOOTPATH_SMTP_URL is not"),
        ("FOOTPATH_SMTP_URL", "http://u:topsecret@host", "is no address of a mail server"),
        ("FOOTPATH_SMTP_URL", "smtp://u:topsecret@host:port", "is no address"),
    ],
)
def test_a_value_that_cannot_be_is_told_in_a_sentence_without_it(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch, mails: MailServer
):
    monkeypatch.setenv(variable, value)
    with pytest.raises(FootpathError, match=said) as caught:
        receivers_of(SHOP)
    assert variable in str(caught.value)
    assert "topsecret" not in str(caught.value)


def test_an_address_is_not_in_what_is_printed_of_a_receiver(
    webhook: WebhookServer, mails: MailServer
):
    hook, mail = receivers_of(SHOP)
    assert "secret" not in repr((hook, mail)) + hook.title + mail.title
    assert (hook.title, mail.title) == ("webhook (Slack)", "e-mail (to 2)")


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (404, b"no_service", "answered 404 no_service"),
        (403, b"topsecret", "answered 403"),
        (500, b"<html>http://127.0.0.1/services/T0/B0/topsecret</html>", "answered 500"),
        (302, b"", "answered 302"),
    ],
)
def test_a_webhook_that_refuses_is_told_by_its_answer_without_the_address(
    status: int, answer: bytes, said: str, webhook: WebhookServer
):
    webhook.status, webhook.answer = status, answer
    webhook.headers = {"Location": "http://127.0.0.1:1/elsewhere"} if status == 302 else {}
    (hook,) = receivers_of(SHOP)
    with pytest.raises(UnsentError) as caught:
        hook.send(MESSAGE)
    assert str(caught.value) == said
    assert caught.value.__cause__ is None


def test_what_was_answered_is_returned_and_a_wait_that_is_asked_for_is_known(
    webhook: WebhookServer,
):
    (hook,) = receivers_of(SHOP)
    assert hook.send(MESSAGE) == "200 ok"
    webhook.status, webhook.headers = 429, {"Retry-After": "90"}
    with pytest.raises(UnsentError) as caught:
        hook.send(MESSAGE)
    assert caught.value.wait == 90


def test_nobody_behind_an_address_is_told_by_the_kind_of_error(monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("FOOTPATH_ALERT_WEBHOOK", f"http://127.0.0.1:{port}/topsecret")
    monkeypatch.setenv("FOOTPATH_SMTP_URL", f"smtp://u:topsecret@127.0.0.1:{port}")
    monkeypatch.setenv("FOOTPATH_ALERT_EMAIL_TO", "a@example.org")
    monkeypatch.setenv("FOOTPATH_ALERT_EMAIL_FROM", "b@example.org")
    for receiver in receivers_of(SHOP):
        with pytest.raises(UnsentError, match=r"^does not answer \(ConnectionRefusedError\)$"):
            receiver.send(MESSAGE)


def test_an_e_mail_reaches_all_addresses_after_the_log_in(mails: MailServer):
    (mail,) = receivers_of(SHOP)
    hostile = Message("Shop: two\nBcc: evil@example.org", MESSAGE.lines)
    assert mail.send(hostile) == "accepted for 2 of 2 addresses"
    ((sender, to, text),) = mails.mails
    assert (sender, to) == ("footpath@example.org", ["data@example.org", "b@example.org"])
    assert "Subject: Footpath: Shop: two Bcc: evil@example.org" in text
    assert "\nBcc:" not in text
    assert "Nothing is wrong\n  all is well" in text.replace("\r\n", "\n")
    assert mails.logins == [b"\0bot\0top@secret"]


def test_a_mail_server_that_refuses_is_told_by_its_code(mails: MailServer):
    mails.refused = {"data@example.org", "b@example.org"}
    (mail,) = receivers_of(SHOP)
    with pytest.raises(UnsentError, match=r"^answered 550: no address is accepted$"):
        mail.send(MESSAGE)


def test_a_password_is_not_sent_in_the_clear_beyond_the_loopback(
    mails: MailServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(receivers, "_is_loopback", lambda _: False)
    (mail,) = receivers_of(SHOP)
    with pytest.raises(UnsentError, match="use smtps://"):
        mail.send(MESSAGE)
    assert mails.logins == []


def test_the_link_to_a_run_needs_the_address_of_the_ui(monkeypatch: pytest.MonkeyPatch):
    assert link_to_run("r1") == ""
    monkeypatch.setenv("FOOTPATH_UI_URL", "https://dagster.example.org/")
    assert link_to_run("r1") == "https://dagster.example.org/runs/r1"
    monkeypatch.setenv("FOOTPATH_UI_URL", "dagster.example.org")
    with pytest.raises(FootpathError, match="FOOTPATH_UI_URL is no address"):
        link_to_run("r1")


def test_secrets_are_taken_out_of_what_an_error_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FOOTPATH_REDIS_PASSWORD", "hunter2222")
    said = "postgresql://me:pw@host/db, hunter2222, https://x.example/a?sp=1&sig=AbC-1&v=2"
    assert redacted(said) == "postgresql://***@host/db, ***, https://x.example/a?sp=1&sig=***&v=2"
