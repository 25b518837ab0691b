"""Names, kinds, meanings and formulas of the behaviour features: the one list of them.

In: a data set's YAML alone, for columns must not depend on data. Out: the fields in the order of
the columns. The store declares them, the gate audits them, the UI shows them, and `behavior.py`
computes exactly these.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from contracts.dataset import Dataset
from contracts.errors import FootpathError
from contracts.tables import FEATURE_CLOCKS

if TYPE_CHECKING:
    import ibis.expr.types as ir

# A user's sum over categories of count * ln(count) is an integer of this many units.
ENTROPY_UNITS = 1_000_000_000


@dataclass(frozen=True)
class FeatureField:
    """One behaviour feature: a column without nulls."""

    name: str
    kind: Literal["int64", "float64"]
    description: str
    # What it is in terms of the columns of `behavior_windows.windows_of`, and of `ends`.
    formula: "Callable[[ir.Table], ir.Value]" = field(repr=False, compare=False)


def feature_fields(dataset: Dataset) -> list[FeatureField]:
    """Returns the behaviour features of a data set, in the order of the columns.

    Raises:
      FootpathError: the name of an action or of a category makes a column that is there already.
    """
    windows = window_days(dataset)
    longest = windows[-1]
    fields = [field for days in windows for field in _window_fields(dataset, days)]
    fields += _recency_fields(dataset, longest) + _action_fields(dataset, longest)
    fields += _category_fields(dataset, longest)
    for name, times in Counter(feature.name for feature in fields).items():
        if times > 1:
            raise FootpathError(
                f"data set {dataset.name}: two behaviour features are named '{name}': "
                "change the entry of `actions` or `features.categories` that makes one of them"
            )
    return fields


def feature_schema(fields: list[FeatureField]) -> pa.Schema:
    """Returns the schema of `user_behavior_features`: user, three clocks, then the fields."""
    columns = [pa.field(f.name, pa.type_for_alias(f.kind), nullable=False) for f in fields]
    user = pa.field("user_id", pa.string(), nullable=False)
    return pa.schema([user, *FEATURE_CLOCKS, *columns])


def window_days(dataset: Dataset) -> list[int]:
    """Returns the lengths of the windows in days, shortest first."""
    return sorted(set(dataset.features.windows))


def told_actions(dataset: Dataset) -> list[str]:
    """Returns the actions with features of their own: a single one would only repeat `events`."""
    return dataset.actions if len(dataset.actions) > 1 else []


def has_categories(dataset: Dataset) -> bool:
    """Tells whether the data set's catalogue gives items a category."""
    return dataset.items is not None and dataset.items.category is not None


def _window_fields(dataset: Dataset, days: int) -> list[FeatureField]:
    """Counts, variety, sessions and value of the last days."""
    within = f"in the last {days} days" if days > 1 else "on the day"

    def count(name: str, column: str, text: str) -> FeatureField:
        column = f"{column}_{days}"
        return FeatureField(f"{name}_{days}d", "int64", f"{text} {within}", _column(column))

    def mean(name: str, total: str, of: str, text: str) -> FeatureField:
        formula = _ratio(f"{total}_{days}", f"{of}_{days}")
        text = f"{text} {within}; 0 without any"
        return FeatureField(f"{name}_{days}d", "float64", text, formula)

    value_sum = _column(f"value_sum_{days}")
    length, seconds = "session_events", "session_seconds"
    return [
        count("events", "events", "events"),
        *(
            count(action, f"action_{place}", f"events of action {action}")
            for place, action in enumerate(told_actions(dataset))
        ),
        count("items", "items", "different items"),
        *[count("categories", "categories", "different categories")] * has_categories(dataset),
        count("active_days", "active_days", "days with an event"),
        FeatureField(f"value_sum_{days}d", "float64", f"sum of the values {within}", value_sum),
        mean("value_mean", "value_sum", "value_count", "mean of the values"),
        count("sessions", "sessions", "sessions that closed"),
        mean("session_length_mean", length, "sessions", "events per session that closed"),
        mean("session_seconds_mean", seconds, "sessions", "seconds per session that closed"),
    ]


def _recency_fields(dataset: Dataset, days: int) -> list[FeatureField]:
    """Hours back to the last event. Above zero by nature, so that zero can say: none."""
    rest = f"event to the end of the day; 0 if the last {days} days have none"
    fields = [
        FeatureField(
            "hours_since_last_event", "float64", f"hours from the last {rest}", _hours("last_event")
        )
    ]
    for place, action in enumerate(told_actions(dataset)):
        formula = _hours(f"last_action_{place}")
        text = f"hours from the last {action} {rest}"
        fields.append(FeatureField(f"hours_since_last_{action}", "float64", text, formula))
    return fields


def _action_fields(dataset: Dataset, days: int) -> list[FeatureField]:
    """What share of the events each action has, and how often each leads to the last one."""
    places = {
        action: f"action_{place}_{days}" for place, action in enumerate(told_actions(dataset))
    }
    fields = [
        FeatureField(
            f"{action}_share_{days}d",
            "float64",
            f"share of {action} among the events of the last {days} days",
            _ratio(column, f"events_{days}"),
        )
        for action, column in places.items()
    ]
    goal = dataset.actions[-1]
    fields += [
        FeatureField(
            f"{goal}_per_{action}_{days}d",
            "float64",
            f"events {goal} per event {action} in the last {days} days; 0 without any {action}",
            _ratio(places[goal], column),
        )
        for action, column in places.items()
        if action != goal
    ]
    return fields


def _category_fields(dataset: Dataset, days: int) -> list[FeatureField]:
    """How evenly a user spreads over categories, and the share of each that has a column."""
    if not has_categories(dataset):
        return []
    text = f"entropy in nats of the categories of the events of the last {days} days; 0 if one"
    fields = [FeatureField(f"category_entropy_{days}d", "float64", text, _entropy(days))]
    for place, category in enumerate(dataset.features.categories):
        formula = _ratio(f"category_{place}_{days}", f"events_{days}")
        text = f"share of category {category} among the events of the last {days} days"
        name = f"category_share_{_slug(category)}_{days}d"
        fields.append(FeatureField(name, "float64", text, formula))
    return fields


def _slug(category: str) -> str:
    """Returns a category's name as it may stand in a column."""
    plain = unicodedata.normalize("NFKD", category).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_") or "other"


def _column(name: str) -> "Callable[[ir.Table], ir.Value]":
    return lambda rows: rows[name]


def _ratio(part: str, whole: str) -> "Callable[[ir.Table], ir.Value]":
    return lambda rows: (rows[whole] > 0).ifelse(
        rows[part].cast("float64") / rows[whole].cast("float64"), 0.0
    )


def _hours(last: str) -> "Callable[[ir.Table], ir.Value]":
    return lambda rows: (rows.ends.delta(rows[last], unit="microsecond") / 3.6e9).fill_null(0.0)


def _entropy(days: int) -> "Callable[[ir.Table], ir.Value]":
    """Gives ln(N) - sum(count * ln(count)) / N, rounded to what the integers carry."""

    def entropy(rows: "ir.Table") -> "ir.Value":
        events = rows[f"events_{days}"].cast("float64")
        value = (events.ln() - rows.spread / ENTROPY_UNITS / events).round(6)
        return ((events > 0) & (rows[f"categories_{days}"] > 1)).ifelse(value, 0.0)

    return entropy
