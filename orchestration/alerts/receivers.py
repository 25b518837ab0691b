"""Who is told: a webhook and e-mail, by addresses that stand in the environment and nowhere else.

    FOOTPATH_ALERT_WEBHOOK         a Slack incoming webhook or a Teams workflow
    FOOTPATH_ALERT_WEBHOOK_<SLUG>  in its place, for one data set (SLUG: MY_SHOP for my-shop)
    FOOTPATH_ALERT_EMAIL_TO        addresses, separated by commas
    FOOTPATH_ALERT_EMAIL_FROM      the sender
    FOOTPATH_SMTP_URL              smtp://user:password@host:587, or smtps://... for TLS at once
    FOOTPATH_UI_URL                where the Dagster UI is, for links to runs

An address is never shown: errors name the variable, and what the other side has answered.
"""

import email.utils
import ipaddress
import json
import os
import re
import smtplib
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.client import HTTPException
from typing import Any, Literal, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from orchestration.alerts.messages import Message, as_slack, as_teams, as_text

WEBHOOK, EMAIL_TO = "FOOTPATH_ALERT_WEBHOOK", "FOOTPATH_ALERT_EMAIL_TO"
EMAIL_FROM, SMTP_URL = "FOOTPATH_ALERT_EMAIL_FROM", "FOOTPATH_SMTP_URL"
UI_URL = "FOOTPATH_UI_URL"

SECONDS = 10  # to wait for an answer

# Hosts of Teams: workflows of Power Automate, of the old kind and of the new, and connectors.
TEAMS = ("logic.azure.com", "logic.azure.us", "powerplatform.com", "powerplatform.us",
         "powerautomate.com", "webhook.office.com")  # fmt: skip


class UnsentError(Exception):
    """A message did not arrive; the text holds no address."""

    def __init__(self, said: str, wait: float = 0.0) -> None:
        super().__init__(said)
        self.wait = wait  # seconds that the other side asks to wait


class Receiver(Protocol):
    """Somebody who is told."""

    @property
    def name(self) -> str:
        """What it is called, without its address."""
        ...

    @property
    def title(self) -> str:
        """What it is, for a person; without its address."""
        ...

    def send(self, message: Message) -> str:
        """Sends a message and returns what was answered.

        Raises:
          UnsentError: it did not arrive.
        """
        ...


@dataclass(frozen=True)
class Webhook:
    """An address that takes messages as JSON."""

    url: str = field(repr=False)
    form: Literal["slack", "teams"]

    @property
    def name(self) -> str:
        """What it is called."""
        return "webhook"

    @property
    def title(self) -> str:
        """What it is."""
        return f"webhook ({self.form.capitalize()})"

    def send(self, message: Message) -> str:
        """Posts the message."""
        payload = as_teams(message) if self.form == "teams" else as_slack(message)
        request = urllib.request.Request(  # noqa: S310 - https, or http on the loopback
            self.url,
            json.dumps(payload).encode(),
            {"Content-Type": "application/json", "User-Agent": "footpath"},
        )
        try:
            with self._opener().open(request, timeout=SECONDS) as response:
                return f"{response.status} {self._harmless(response.read(200))}".strip()
        except urllib.error.HTTPError as error:
            said = f"answered {error.code} {self._harmless(_read(error))}".strip()
            asked = error.headers.get("Retry-After", "")
            raise UnsentError(said, float(asked) if asked.isdigit() else 0.0) from None
        except urllib.error.URLError as error:
            raise UnsentError(f"does not answer ({_kind(error.reason)})") from None
        except (OSError, HTTPException, ValueError) as error:
            raise UnsentError(f"does not answer ({_kind(error)})") from None

    def _opener(self) -> urllib.request.OpenerDirector:
        handlers: list[Any] = [_NoRedirect()]
        if _is_loopback(urlsplit(self.url).hostname or ""):
            handlers.append(urllib.request.ProxyHandler({}))
        return urllib.request.build_opener(*handlers)

    def _harmless(self, body: bytes) -> str:
        """An answer of a few words, such as Slack's `invalid_token`; nothing else is shown."""
        text = body.decode(errors="replace").strip()
        is_of_address = len(text) > 5 and text in self.url
        return text if re.fullmatch(r"[A-Za-z_ ]{1,40}", text) and not is_of_address else ""


@dataclass(frozen=True)
class Mail:
    """E-mail through an SMTP server."""

    to: tuple[str, ...] = field(repr=False)
    sender: str = field(repr=False)
    server: SplitResult = field(repr=False)

    @property
    def name(self) -> str:
        """What it is called."""
        return "e-mail"

    @property
    def title(self) -> str:
        """What it is."""
        return f"e-mail (to {len(self.to)})"

    def send(self, message: Message) -> str:
        """Sends the message to all addresses."""
        mail = EmailMessage()
        mail["Subject"] = " ".join(f"Footpath: {message.title}".split())
        mail["From"], mail["To"] = self.sender, ", ".join(self.to)
        mail["Date"], mail["Message-ID"] = email.utils.formatdate(), email.utils.make_msgid()
        mail.set_content(as_text(message))
        try:
            with self._connected() as client:
                refused = client.send_message(mail)
        except smtplib.SMTPResponseException as error:
            raise UnsentError(f"answered {error.smtp_code}") from None
        except smtplib.SMTPRecipientsRefused as error:
            codes = sorted({str(code) for code, _ in error.recipients.values()})
            raise UnsentError(f"answered {', '.join(codes)}: no address is accepted") from None
        except (OSError, smtplib.SMTPException) as error:
            raise UnsentError(f"does not answer ({_kind(error)})") from None
        return f"accepted for {len(self.to) - len(refused)} of {len(self.to)} addresses"

    def _connected(self) -> smtplib.SMTP:
        """Connects, with TLS where the server has it, and always where a password is sent."""
        host, user = self.server.hostname or "", unquote(self.server.username or "")
        context = ssl.create_default_context()
        if self.server.scheme == "smtps":
            port = self.server.port or 465
            client: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=SECONDS, context=context)
        else:
            port = self.server.port or (587 if user else 25)
            client = smtplib.SMTP(host, port, timeout=SECONDS)
        try:
            if self.server.scheme == "smtp":
                _encrypt(client, context, must=bool(user) and not _is_loopback(host))
            if user:
                client.login(user, unquote(self.server.password or ""))
        except BaseException:
            client.close()
            raise
        return client


def receivers_of(dataset: Dataset) -> list[Receiver]:
    """Who is told of a data set; nobody where the environment has no address.

    Raises:
      FootpathError: a variable has a value that cannot be.
    """
    return [found for found in (_webhook(dataset), _mail()) if found]


def link_to_run(run_id: str) -> str:
    """Address of a run in the UI; nothing where the UI's is not known."""
    base = ui_url()
    return f"{base}/runs/{run_id}" if base else ""


def ui_url() -> str:
    """Where the UI is, without a slash at the end.

    Raises:
      FootpathError: the variable holds no address.
    """
    url = os.environ.get(UI_URL, "").rstrip("/")
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        raise FootpathError(f"{UI_URL} is no address: give one such as https://dagster.example.org")
    return url


def _webhook(dataset: Dataset) -> Webhook | None:
    own = f"{WEBHOOK}_{dataset.slug.upper()}"
    variable = own if os.environ.get(own) else WEBHOOK
    url = os.environ.get(variable, "").strip()
    if not url:
        return None
    parts = _split(variable, url)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or parts.username or " " in url:
        raise FootpathError(
            f"{variable} is no address of a webhook: give one such as "
            f"https://hooks.slack.com/services/..."
        )
    if parts.scheme == "http" and not _is_loopback(host):
        raise FootpathError(f"{variable} begins with http://, and others could read it: use https")
    asked = dataset.automation.alerts.webhook
    is_teams = any(host == known or host.endswith(f".{known}") for known in TEAMS)
    form = asked if asked != "auto" else ("teams" if is_teams else "slack")
    return Webhook(url, form)


def _mail() -> Mail | None:
    given = {name: os.environ.get(name, "").strip() for name in (EMAIL_TO, EMAIL_FROM, SMTP_URL)}
    if not given[EMAIL_TO]:
        return None
    for name, value in given.items():
        if not value:
            raise FootpathError(f"{EMAIL_TO} is set and {name} is not: e-mail needs both")
    server = _split(SMTP_URL, given[SMTP_URL])
    if server.scheme not in ("smtp", "smtps") or not server.hostname:
        raise FootpathError(
            f"{SMTP_URL} is no address of a mail server: "
            f"give one such as smtps://user:password@host:465"
        )
    return Mail(_addresses(EMAIL_TO, given), _addresses(EMAIL_FROM, given)[0], server)


def _addresses(name: str, given: dict[str, str]) -> tuple[str, ...]:
    found = [address for _, address in email.utils.getaddresses([given[name]])]
    if not found or not all(re.fullmatch(r"[^@\s]+@[^@\s]+", address) for address in found):
        raise FootpathError(f"{name} is no e-mail address, or several separated by commas")
    return tuple(found)


def _split(name: str, url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        raise FootpathError(f"{name} is no address: a part of it cannot be read") from None
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _encrypt(client: smtplib.SMTP, context: ssl.SSLContext, must: bool) -> None:
    """Goes on in TLS where the server has it."""
    client.ehlo()
    if client.has_extn("starttls"):
        client.starttls(context=context)
    elif must:
        raise UnsentError("offers no TLS for the password: use smtps://")


def _kind(error: object) -> str:
    """Class of an error: its message may hold the address."""
    return type(error).__name__ if isinstance(error, BaseException) else "error"


def _read(error: urllib.error.HTTPError) -> bytes:
    try:
        return error.read(200)
    except OSError:
        return b""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing: a message goes to the address that was given, or nowhere."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Makes the redirect an error."""
        return
