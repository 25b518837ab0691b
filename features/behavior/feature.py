"""One behavior feature, and the words that the names of all are made of."""

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Literal

from contracts.config.dataset import Dataset
from features.behavior.terms import Term

Kind = Literal["int64", "float64", "string"]


@dataclass(frozen=True)
class FeatureField:
    """One behavior feature: a column without nulls, 0 or '' where a user has nothing."""

    name: str
    kind: str
    description: str
    term: Term = field(repr=False, compare=False)


def told_actions(dataset: Dataset) -> list[str]:
    """Returns the actions with features of their own: a single one would only repeat `events`."""
    return dataset.actions if len(dataset.actions) > 1 else []


def action_measure(dataset: Dataset, action: str) -> str:
    """Returns the measure that counts the events of an action, or all `events`."""
    return f"action_{action}" if action in told_actions(dataset) else "events"


def within(days: int) -> str:
    """Returns how a window is told."""
    return f"in the last {days} days" if days > 1 else "on the day"


def slug(category: str) -> str:
    """Returns a category's name as it may stand in a column."""
    plain = unicodedata.normalize("NFKD", category).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_") or "other"
