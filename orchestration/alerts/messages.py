"""One message of several alerts, as plain text and as what Slack and Teams take."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestration.alerts.alert import TITLES, Alert

LINES = 20  # in one message: Teams takes 28 KB


@dataclass(frozen=True)
class Message:
    """What is told at once."""

    title: str
    lines: tuple["Line", ...]
    left_out: int = 0

    @property
    def more(self) -> str:
        """What stands at the end in the place of lines that are left out."""
        return f"and {self.left_out:,} more" if self.left_out else ""


@dataclass(frozen=True)
class Line:
    """One thing in a message."""

    head: str
    text: str
    link: str = ""


def message_of(
    title: str, new: Sequence[Alert], passed: Sequence[Alert], recovered: Sequence[Alert]
) -> Message:
    """Writes the message.

    Args:
      title: of the data set.
      new: what is wrong and was not told.
      passed: what was wrong and is well again before it could be told.
      recovered: what was told and is well again.
    """
    lines = [Line(f"{TITLES[a.kind]}: {a.subject}", a.text, a.link) for a in new]
    lines += [
        Line(f"{TITLES[a.kind]}, and well again: {a.subject}", a.text, a.link) for a in passed
    ]
    lines += [Line(f"Recovered: {a.subject}", f"was: {TITLES[a.kind]}") for a in recovered]
    counts = Counter(TITLES[a.kind].lower() for a in [*new, *passed])
    said = [f"{count} x {what}" if count > 1 else what for what, count in counts.items()]
    said += [f"{len(recovered)} recovered"] if recovered else []
    return Message(f"{title}: {', '.join(said)}", tuple(lines[:LINES]), len(lines[LINES:]))


def as_text(message: Message) -> str:
    """Plain text, for e-mail."""
    lines = [
        f"{line.head}\n  {line.text}" + (f"\n  {line.link}" if line.link else "")
        for line in message.lines
    ]
    return "\n\n".join([*lines, message.more]).strip() + "\n"


def as_slack(message: Message) -> dict[str, Any]:
    """JSON that a Slack incoming webhook takes, and whatever else reads `text`."""
    lines = [f"*{_escaped(message.title)}*"]
    for line in message.lines:
        link = f" <{line.link}|Look>" if line.link else ""
        lines.append(f"• *{_escaped(line.head)}*: {_escaped(line.text)}{link}")
    return {"text": "\n".join([*lines, message.more]).strip()}


def as_teams(message: Message) -> dict[str, Any]:
    """JSON that the Teams workflow "when a webhook request is received" takes: an Adaptive Card.

    Its texts are runs of rich text, in which nothing of the data is markup.
    """
    body: list[dict[str, Any]] = [
        _rich([{"type": "TextRun", "text": message.title, "weight": "Bolder", "size": "Medium"}])
    ]
    for line in message.lines:
        runs: list[dict[str, Any]] = [
            {"type": "TextRun", "text": f"{line.head}: ", "weight": "Bolder"},
            {"type": "TextRun", "text": line.text},
        ]
        if line.link:
            action = {"type": "Action.OpenUrl", "url": line.link}
            runs += [
                {"type": "TextRun", "text": " "},
                {"type": "TextRun", "text": "Look", "selectAction": action},
            ]
        body.append(_rich(runs))
    if message.more:
        body.append(_rich([{"type": "TextRun", "text": message.more}]))
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": message.title,
        "msteams": {"width": "Full"},
        "body": body,
    }
    kind = "application/vnd.microsoft.card.adaptive"
    attachment = {"contentType": kind, "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def _rich(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": runs}


def _escaped(text: str) -> str:
    """Text in which Slack sees no mark-up: neither a link nor a call of the whole channel."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
