"""`footpath automation test-alert` says what was answered, and by whom nothing was."""

import pytest
from typer.testing import CliRunner

from contracts.base.errors import FootpathError
from orchestration.cli.main import app
from tests.builders.receivers import MailServer, WebhookServer, serving


def run(dataset: str = "shop") -> str:
    command = ["automation", "test-alert", "--dataset", dataset]
    return CliRunner().invoke(app, command, catch_exceptions=False).output


def test_a_test_message_goes_to_everybody_who_is_told(monkeypatch: pytest.MonkeyPatch):
    hook, mails = WebhookServer(), MailServer()
    monkeypatch.setenv("FOOTPATH_ALERT_WEBHOOK", hook.url)
    monkeypatch.setenv("FOOTPATH_SMTP_URL", f"smtp://{mails.host}")
    monkeypatch.setenv("FOOTPATH_ALERT_EMAIL_TO", "a@example.org")
    monkeypatch.setenv("FOOTPATH_ALERT_EMAIL_FROM", "b@example.org")
    with serving(hook), serving(mails):
        said = run()
        assert said == ("webhook (Slack): 200 ok\ne-mail (to 1): accepted for 1 of 1 addresses\n")
        assert "Synthetic shop: a test" in hook.texts[0]
        hook.status, hook.answer = 404, b"no_service"
        with pytest.raises(FootpathError, match="the test did not arrive by webhook: check"):
            run()
    assert len(mails.mails) == 2


def test_without_an_address_it_says_which_to_set(monkeypatch: pytest.MonkeyPatch):
    for name in ("FOOTPATH_ALERT_WEBHOOK", "FOOTPATH_ALERT_EMAIL_TO"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(FootpathError, match="neither FOOTPATH_ALERT_WEBHOOK nor"):
        run()
