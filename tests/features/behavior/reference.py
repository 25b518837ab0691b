"""What declared features mean, once more, in plain Python: for tests to compare with."""

import datetime as dt
import itertools
import math
import statistics
from collections import Counter
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

from contracts.config.dataset import Dataset
from contracts.config.feature_list import (
    Count,
    Distinct,
    Entropy,
    Funnel,
    Gaps,
    Recency,
    SessionStats,
    TimeOfDay,
    TopCategories,
    Trend,
    Value,
    Weekend,
)

Rows = list[dict[str, Any]]


class Log:
    """One user's events (with category and local hour) and sessions, each with its day."""

    def __init__(self, dataset: Dataset, events: Rows, sessions: Rows, catalog: dict) -> None:
        zone = ZoneInfo(dataset.timezone)
        self.events: Rows = [
            event
            | {"category": catalog.get(event["item_id"]) or None}
            | {"hour": event["timestamp"].astimezone(zone).hour}
            for event in events
        ]
        self.sessions = sorted(sessions, key=lambda session: session["started_at"])

    def window(self, day: dt.date, days: int) -> tuple[Rows, Rows]:
        """Returns the events and the closed sessions of the window that ends with a day."""
        since = day - dt.timedelta(days=days - 1)
        return (
            [event for event in self.events if since <= event["day"] <= day],
            [session for session in self.sessions if since <= session["day"] <= day],
        )


def declared_row(dataset: Dataset, log: Log, day: dt.date, ends: dt.datetime) -> dict[str, Any]:
    """Returns all declared features of a user on a day."""
    row = {}
    for entry in dataset.features.declared:
        if isinstance(entry, Recency):
            row |= _recency(dataset, entry, log, day, ends)
        elif isinstance(entry, Trend):
            row |= _trend(entry, log, day)
        else:
            for days in entry.windows or dataset.features.windows:
                events, sessions = log.window(day, days)
                found = KINDS[type(entry)](dataset, entry, events, sessions)
                row |= {f"{name}_{days}d": value for name, value in found.items()}
    return row


def _of(action: str | None, events: Rows) -> Rows:
    return [event for event in events if action in (None, event["action"])]


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _known(events: Rows, key: str) -> list:
    return [event[key] for event in events if event[key] is not None]


def _slug(category: str) -> str:
    return {"Déjà vu & more": "deja_vu_more"}.get(category, category)


def _count(_dataset: Dataset, entry: Count, events: Rows, _sessions: Rows) -> dict:
    found = [
        event for event in _of(entry.action, events) if entry.category in (None, event["category"])
    ]
    name = entry.action or "events"
    return {name + (f"_{_slug(entry.category)}" if entry.category else ""): len(found)}


def _distinct(_dataset: Dataset, entry: Distinct, events: Rows, sessions: Rows) -> dict:
    chosen = _of(entry.action, events)
    values = {
        "items": lambda: {*_known(chosen, "item_id")},
        "categories": lambda: {*_known(chosen, "category")},
        "sessions": lambda: {session["session_id"] for session in sessions},
        "active_days": lambda: {event["day"] for event in chosen},
    }[entry.of]()
    return {(f"{entry.action}_" if entry.action else "") + entry.of: len(values)}


def _entropy(_dataset: Dataset, entry: Entropy, events: Rows, _sessions: Rows) -> dict:
    key = {"categories": "category", "actions": "action", "hours": "hour"}[entry.of]
    counts = Counter(_known(events, key)).values()
    shares = [count / sum(counts) for count in counts]
    entropy = -sum(share * math.log(share) for share in shares) + 0.0
    return {f"{key}_entropy": entropy if shares else None}


def _gaps(_dataset: Dataset, entry: Gaps, _events: Rows, sessions: Rows) -> dict:
    gaps = [
        (later["started_at"] - earlier["ended_at"]) // dt.timedelta(seconds=1)
        for earlier, later in itertools.pairwise(sessions)
    ]
    of: dict[str, Callable[[], float]] = {
        "mean": lambda: statistics.mean(gaps),
        "std": lambda: statistics.pstdev(gaps),
        "last": lambda: gaps[-1],
    }
    return {f"gap_seconds_{stat}": of[stat]() if gaps else None for stat in entry.stats}


def _funnel(_dataset: Dataset, entry: Funnel, events: Rows, _sessions: Rows) -> dict:
    of, per = len(_of(entry.of, events)), len(_of(entry.per, events))
    name = f"{entry.of}_per_{entry.per}" + ("_smoothed" if entry.smoothing else "")
    return {name: of / (per + entry.smoothing) if per else None}


def _top(dataset: Dataset, entry: TopCategories, events: Rows, _sessions: Rows) -> dict:
    counts = Counter(_known(events, "category"))
    known = [name for name in dataset.features.categories if counts[name]]
    ranked = sorted(known, key=lambda name: -counts[name])  # stable: ties as declared
    row = {}
    for place in range(1, entry.k + 1):
        name = ranked[place - 1] if place <= len(ranked) else None
        row[f"top_category_{place}"] = name
        row[f"top_category_{place}_share"] = counts[name] / counts.total() if name else None
    return row


def _value(_dataset: Dataset, entry: Value, events: Rows, _sessions: Rows) -> dict:
    values = _known(_of(entry.action, events), "value")
    of: dict[str, Callable[[], float | None]] = {
        "sum": lambda: math.fsum(values),
        "mean": lambda: _share(math.fsum(values), len(values)),
        "max": lambda: max(values, default=None),
        "std": lambda: statistics.pstdev(values) if values else None,
    }
    prefix = f"{entry.action}_" if entry.action else ""
    return {f"{prefix}value_{stat}": of[stat]() for stat in entry.stats}


def _sessions(_dataset: Dataset, entry: SessionStats, _events: Rows, sessions: Rows) -> dict:
    lists = {
        "length": [session["length"] for session in sessions],
        "seconds": [session["duration_seconds"] for session in sessions],
    }
    row = {}
    for stat in entry.stats:
        what, _, how = stat.partition("_")
        mean_or_max = max if how == "max" else statistics.fmean
        row[f"session_{stat}"] = mean_or_max(lists[what]) if sessions else None
    return row


def _time_of_day(_dataset: Dataset, entry: TimeOfDay, events: Rows, _sessions: Rows) -> dict:
    return {
        f"{name}_share": _share(sum(start <= e["hour"] < end for e in events), len(events))
        for name, (start, end) in entry.parts.items()
    }


def _weekend(_dataset: Dataset, _entry: Weekend, events: Rows, _sessions: Rows) -> dict:
    free = sum(event["day"].weekday() >= 5 for event in events)
    return {"weekend_share": _share(free, len(events))}


def _recency(dataset: Dataset, entry: Recency, log: Log, day: dt.date, ends: dt.datetime) -> dict:
    events, _ = log.window(day, max(dataset.features.windows))
    row = {}
    for name in entry.of or ["event", *dataset.actions]:
        times = [e["timestamp"] for e in _of(None if name == "event" else name, events)]
        days = (ends - max(times)) / dt.timedelta(days=1) if times else None
        row[f"days_since_last_{name}"] = days and min(days, entry.cap_days or days)
    return row


def _trend(entry: Trend, log: Log, day: dt.date) -> dict:
    action = None if entry.of == "events" else entry.of
    new, old = (
        len(_of(action, log.window(day, days)[0])) / days for days in (entry.short, entry.long)
    )
    name = "trend" if entry.form == "ratio" else "change"
    value = _share(new, old) if entry.form == "ratio" else new - old
    return {f"{entry.of}_{name}_{entry.short}d_{entry.long}d": value}


KINDS: dict[type, Callable] = {
    Count: _count,
    Distinct: _distinct,
    Entropy: _entropy,
    Gaps: _gaps,
    Funnel: _funnel,
    TopCategories: _top,
    Value: _value,
    SessionStats: _sessions,
    TimeOfDay: _time_of_day,
    Weekend: _weekend,
}
