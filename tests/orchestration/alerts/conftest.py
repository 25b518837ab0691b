"""Receivers on the loopback, a Dagster instance, and an environment without addresses."""

import os
from collections.abc import Iterator

import dagster as dg
import pytest

from tests.builders.receivers import MailServer, WebhookServer, serving


@pytest.fixture(autouse=True)
def no_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("FOOTPATH_ALERT", "FOOTPATH_SMTP", "FOOTPATH_UI")):
            monkeypatch.delenv(name)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebhookServer]:
    """A webhook that the environment names."""
    server = WebhookServer()
    monkeypatch.setenv("FOOTPATH_ALERT_WEBHOOK", server.url)
    with serving(server):
        yield server


@pytest.fixture
def mails(monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    """A mail server that the environment names, with two addresses."""
    server = MailServer()
    monkeypatch.setenv("FOOTPATH_SMTP_URL", f"smtp://bot:top%40secret@{server.host}")
    monkeypatch.setenv("FOOTPATH_ALERT_EMAIL_TO", "Data <data@example.org>, b@example.org")
    monkeypatch.setenv("FOOTPATH_ALERT_EMAIL_FROM", "footpath@example.org")
    with serving(server):
        yield server
