"""Declared features: what the columns of each entry of the YAML's `features.declared` are.

In: an entry and its data set. Out: its fields, with name, kind, meaning and formula.
"""

import re
import unicodedata
from collections.abc import Iterator

from contracts.base.hashing import hash_json
from contracts.config.dataset import Dataset
from contracts.config.feature_list import (
    Count,
    Declared,
    Distinct,
    Entropy,
    Funnel,
    Gaps,
    OfAction,
    Recency,
    SessionStats,
    TimeOfDay,
    TopCategories,
    Trend,
    Value,
    Weekend,
    Windowed,
)
from features.behavior import terms
from features.behavior.measures import action_measure
from features.behavior.terms import FeatureField, Term, ratio, total

CATEGORY_ENTROPY = "entropy in nats of the categories of events, 0 if one, null without any,"
STATISTICS = {"mean": "mean", "std": "standard deviation", "max": "largest", "sum": "sum"}


def declared_fields(dataset: Dataset, entry: Declared) -> Iterator[FeatureField]:
    """The fields of one entry, in the order of its windows."""
    if isinstance(entry, Windowed):
        for days in sorted(set(entry.windows or dataset.features.windows)):
            for name, kind, text, term in _of_window(dataset, entry, days):
                told = f"{text} {within(days)}"
                yield FeatureField(f"{name}_{days}d", kind, told, term)
    elif isinstance(entry, Trend):
        yield _trend(dataset, entry)
    else:
        yield from _recency(dataset, entry)


Column = tuple[str, str, str, Term]  # name without its window, kind, text without it, term


def _of_window(dataset: Dataset, entry: Windowed, days: int) -> Iterator[Column]:
    match entry:
        case Count():
            yield _count(dataset, entry, days)
        case Distinct():
            yield _distinct(entry, days)
        case Entropy():
            yield _entropy(dataset, entry, days)
        case Gaps():
            yield from _gaps(entry, days)
        case Funnel():
            yield _funnel(dataset, entry, days)
        case TopCategories():
            yield from _top(dataset, entry, days)
        case Value():
            yield from _values(dataset, entry, days)
        case SessionStats():
            yield from _sessions(entry, days)
        case TimeOfDay():
            yield from _time_of_day(entry, days)
        case Weekend():
            share = ratio(total("weekend", days), total("events", days))
            yield "weekend_share", "float64", "share of events on Saturdays and Sundays", share


def _told(entry: OfAction) -> str:
    return f"events of action {entry.action}" if entry.action else "events"


def _count(dataset: Dataset, entry: Count, days: int) -> Column:
    if entry.category is None:
        measure = action_measure(dataset, entry.action or "events")
        return entry.action or "events", "int64", _told(entry), total(measure, days)
    place = dataset.features.categories.index(entry.category)
    measure = f"category_{place}" + (f"_of_{entry.action}" if entry.action else "")
    name = f"{entry.action or 'events'}_{slug(entry.category)}"
    text = f"{_told(entry)} with an item of category {entry.category}"
    return name, "int64", text, total(measure, days)


def _distinct(entry: Distinct, days: int) -> Column:
    texts = {"sessions": "sessions that closed", "active_days": "days with an event"}
    text = texts.get(entry.of) or f"different {entry.of}"
    if not entry.action:
        return entry.of, "int64", text, total(entry.of, days)
    measure = f"{entry.of}_of_{entry.action}"
    return f"{entry.action}_{entry.of}", "int64", f"{text} in {_told(entry)}", total(measure, days)


def _entropy(dataset: Dataset, entry: Entropy, days: int) -> Column:
    if entry.of == "categories":
        return "category_entropy", "float64", CATEGORY_ENTROPY, terms.category_entropy(days)
    if entry.of == "actions":
        parts = [total(action_measure(dataset, action), days) for action in dataset.actions]
        text = "entropy in nats of the actions of events, 0 if one, null without any,"
        return "action_entropy", "float64", text, terms.entropy(parts)
    parts = [total(f"hour_{hour}", days) for hour in range(24)]
    text = "entropy in nats of the local hours of events, 0 if one, null without any,"
    return "hour_entropy", "float64", text, terms.entropy(parts)


def _gaps(entry: Gaps, days: int) -> Iterator[Column]:
    count, seconds, squares = (total(name, days) for name in ("gaps", "gap_seconds", "gap_squares"))
    of = {
        "mean": ratio(seconds, count),
        "std": terms.deviation(count, seconds, squares),
        "last": terms.where_any(count, total("gap_last", days)),
    }
    text = "pause in seconds between a session and the next, null without two sessions,"
    for stat in entry.stats:
        yield f"gap_seconds_{stat}", "float64", f"{STATISTICS.get(stat, stat)} {text}", of[stat]


def _funnel(dataset: Dataset, entry: Funnel, days: int) -> Column:
    of, per = (total(action_measure(dataset, name), days) for name in (entry.of, entry.per))
    name, smooth = f"{entry.of}_per_{entry.per}", ""
    if entry.smoothing:
        name, smooth = f"{name}_smoothed", f" plus {entry.smoothing:g}"
    text = f"events {entry.of} per event {entry.per}{smooth}, null without any {entry.per},"
    return name, "float64", text, ratio(of, per, entry.smoothing)


def _top(dataset: Dataset, entry: TopCategories, days: int) -> Iterator[Column]:
    for place in range(1, entry.k + 1):
        name, share = terms.top_category(place, dataset.features.categories, days)
        which = f"the category with the most events, place {place},"
        yield f"top_category_{place}", "string", f"{which} null if there is none,", name
        text = f"share of {which} among the events with a category,"
        yield f"top_category_{place}_share", "float64", text, share


def _values(dataset: Dataset, entry: Value, days: int) -> Iterator[Column]:
    suffix = f"_{action_measure(dataset, entry.action)}" if entry.action else ""
    if suffix == "_events":  # the only action there is
        suffix = ""
    count, sums, squares = (
        total(f"value_{name}{suffix}", days) for name in ("count", "sum", "squares")
    )
    of = {
        "sum": sums,
        "mean": ratio(sums, count),
        "max": terms.largest(f"value_max{suffix}", days),
        "std": terms.deviation(count, sums, squares),
    }
    prefix = f"{entry.action}_" if entry.action else ""
    for stat in entry.stats:
        none = "0" if stat == "sum" else "null"
        text = f"{STATISTICS[stat]} of the values of {_told(entry)}, {none} without any,"
        yield f"{prefix}value_{stat}", "float64", text, of[stat]


def _sessions(entry: SessionStats, days: int) -> Iterator[Column]:
    columns = {"length": ("session_events", "events"), "seconds": ("session_seconds", "seconds")}
    for stat in entry.stats:
        what, _, how = stat.partition("_")
        measure, unit = columns[what]
        if how == "mean":
            text, term = f"{unit} per session", ratio(total(measure, days), total("sessions", days))
        else:
            text, term = f"most {unit} of a session", terms.largest(f"{measure}_max", days)
        yield f"session_{stat}", "float64", f"{text} that closed, null without any,", term


def _time_of_day(entry: TimeOfDay, days: int) -> Iterator[Column]:
    for name, (start, end) in entry.parts.items():
        part = terms.summed([total(f"hour_{hour}", days) for hour in range(start, end)])
        text = f"share of events from {start:02}:00 to {end:02}:00, local time,"
        yield f"{name}_share", "float64", text, ratio(part, total("events", days))


def _trend(dataset: Dataset, entry: Trend) -> FeatureField:
    measure = action_measure(dataset, entry.of)
    term = terms.daily_change(measure, entry.short, entry.long, entry.form)
    what = "events" if entry.of == "events" else f"events of action {entry.of}"
    how = {"ratio": "over", "difference": "less"}[entry.form]
    word = {"ratio": "trend", "difference": "change"}[entry.form]
    text = f"{what} a day {within(entry.short)} {how} those {within(entry.long)}"
    if entry.form == "ratio":
        text += "; null without any"
    return FeatureField(f"{entry.of}_{word}_{entry.short}d_{entry.long}d", "float64", text, term)


def _recency(dataset: Dataset, entry: Recency) -> Iterator[FeatureField]:
    longest = max(dataset.features.windows)
    cap = f", at most {entry.cap_days}" if entry.cap_days else ""
    for name in dict.fromkeys(entry.of or ["event", *dataset.actions]):
        measure = action_measure(dataset, "events" if name == "event" else name)
        last = "last_event" if measure == "events" else f"last_{measure}"
        text = f"days from the last {name} to the end of the day{cap}; null if the last {longest} "
        term = terms.hours_since(last, longest, per=24.0, cap=entry.cap_days)
        yield FeatureField(f"days_since_last_{name}", "float64", f"{text}days have none", term)


def within(days: int) -> str:
    """How a window is told."""
    return f"in the last {days} days" if days > 1 else "on the day"


def slug(category: str) -> str:
    """A category's name as it may stand in a column; one that loses letters ends in a hash."""
    letters = [c for c in unicodedata.normalize("NFKD", category) if not unicodedata.combining(c)]
    plain = re.sub(r"[^a-z0-9]+", "_", "".join(letters).lower()).strip("_")
    if all(c.isascii() or not c.isalnum() for c in letters) and plain:
        return plain
    return f"{plain or 'category'}_{hash_json(category)[:8]}"
