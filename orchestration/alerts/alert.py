"""One thing that is wrong with a data set, in a form that may be shown to anybody."""

import os
import re
from dataclasses import dataclass, replace

from contracts.config.automation import AlertKind

TITLES: dict[AlertKind, str] = {
    "run_failed": "Run failed",
    "day_stopped": "Day stopped",
    "data_missing": "Data missing",
    "model_stale": "Model stale",
    "check_failed": "Check failed",
    "standing_still": "Standing still",
}

MOST_CHARACTERS, CUT = 400, " ..."  # of a text

_USER_OF_URL = re.compile(r"(\w+://)[^\s/@]*:[^\s/]*@")
_QUERY_SECRET = re.compile(r"([?&](?:sig|signature|token|key|password)=)[^&\s]+", re.I)
_SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|WEBHOOK|SMTP_URL|POSTGRES_URL")
_NAMES = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]+|\d+")


@dataclass(frozen=True)
class Alert:
    """What is wrong, of what, and why.

    Attributes:
      kind: which of the YAML's `automation.alerts.kinds`.
      subject: what is wrong, such as "events of 2026-01-05".
      text: why, in a sentence.
      key: identity of the subject: the same key is the same thing standing there as before.
      link: where to look, or nothing.
      expires: instant (seconds) from which on it is not looked at any more: then it is forgotten,
        not told as recovered.
      cause: what stands behind it; with another cause it is told again. By default there is one
        cause at a time.
    """

    kind: AlertKind
    subject: str
    text: str
    key: str
    link: str = ""
    expires: float | None = None
    cause: str = ""

    def shown(self) -> "Alert":
        """The same without secrets, and not longer than a message may be."""
        text = " ".join(redacted(self.text).split())
        if len(text) > MOST_CHARACTERS:
            text = text[:MOST_CHARACTERS] + CUT
        return replace(self, text=text, subject=redacted(self.subject))


def cause_of(text: str) -> str:
    """A sentence without its numbers and ids, which differ each time it is said."""
    return _NAMES.sub("#", redacted(text))[:MOST_CHARACTERS]


def redacted(text: str) -> str:
    """A text without passwords of addresses and without secrets of the environment."""
    for name, value in os.environ.items():
        if len(value) >= 6 and _SECRET_NAME.search(name):
            text = text.replace(value, "***")
    return _QUERY_SECRET.sub(r"\1***", _USER_OF_URL.sub(r"\1***@", text))
