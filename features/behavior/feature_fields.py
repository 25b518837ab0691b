"""Names, kinds, meanings and formulas of the behavior features of users: the one list of them.

In: a data set's YAML alone, for columns must not depend on data. Out: the fields in the order of
the columns: the standard ones, then those that the YAML declares (`declared.py`). The
store declares them, the gate audits them, the UI shows them, and `build.py` computes exactly these.
"""

from collections import Counter

import pyarrow as pa

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.schemas import FEATURE_CLOCKS
from features.behavior.declared import CATEGORY_ENTROPY, declared_fields, slug, within
from features.behavior.measures import told_actions
from features.behavior.terms import (
    FeatureField,
    Term,
    category_entropy,
    hours_since,
    ratio,
    total,
)


def feature_fields(dataset: Dataset) -> list[FeatureField]:
    """The behavior features of a data set, in the order of the columns.

    A declared feature that is a standard one too is one column.

    Raises:
      FootpathError: two different features have one name.
    """
    fields = _standard_fields(dataset) if dataset.features.standard else []
    for entry in dataset.features.declared:
        fields += [field for field in declared_fields(dataset, entry) if field not in fields]
    return check_names(dataset, fields)


def check_names(dataset: Dataset, fields: list[FeatureField]) -> list[FeatureField]:
    """The fields, each of which has a name of its own.

    Raises:
      FootpathError: two different features have one name.
    """
    for name, times in Counter(field.name for field in fields).items():
        if times > 1:
            raise FootpathError(
                f"data set {dataset.name}: two behavior features are named '{name}': change the "
                "entry of `actions`, `features.categories` or `features.declared` that makes one "
                "of them"
            )
    return fields


def feature_schema(fields: list[FeatureField], key: str = "user_id") -> pa.Schema:
    """The schema of a table of features: user or item, three clocks, then the fields."""
    columns = [pa.field(f.name, pa.type_for_alias(f.kind), f.term.is_nullable) for f in fields]
    return pa.schema([pa.field(key, pa.string(), nullable=False), *FEATURE_CLOCKS, *columns])


def window_days(dataset: Dataset) -> list[int]:
    """The lengths of the windows in days, shortest first."""
    return sorted(set(dataset.features.windows))


def has_categories(dataset: Dataset) -> bool:
    """Whether the data set's catalog gives items a category."""
    return dataset.items is not None and dataset.items.category is not None


def _standard_fields(dataset: Dataset) -> list[FeatureField]:
    windows = window_days(dataset)
    fields = [field for days in windows for field in _window_fields(dataset, days)]
    longest = windows[-1]
    return [
        *fields,
        *_recency_fields(dataset, longest),
        *_action_fields(dataset, longest),
        *_category_fields(dataset, longest),
    ]


def _window_fields(dataset: Dataset, days: int) -> list[FeatureField]:
    """Counts, variety, sessions and value of the last days."""

    def count(name: str, measure: str, text: str) -> FeatureField:
        return FeatureField(f"{name}_{days}d", "int64", f"{text} {within(days)}", _of(measure))

    def mean(name: str, part: str, of: str, text: str) -> FeatureField:
        text = f"{text}, null without any, {within(days)}"
        return FeatureField(f"{name}_{days}d", "float64", text, ratio(_of(part), _of(of)))

    def _of(measure: str) -> Term:
        return total(measure, days)

    sums = f"sum of the values of events, 0 without any, {within(days)}"
    length, seconds = "session_events", "session_seconds"
    return [
        count("events", "events", "events"),
        *(count(a, f"action_{a}", f"events of action {a}") for a in told_actions(dataset)),
        count("items", "items", "different items"),
        *[count("categories", "categories", "different categories")] * has_categories(dataset),
        count("active_days", "active_days", "days with an event"),
        FeatureField(f"value_sum_{days}d", "float64", sums, _of("value_sum")),
        mean("value_mean", "value_sum", "value_count", "mean of the values of events"),
        count("sessions", "sessions", "sessions that closed"),
        mean("session_length_mean", length, "sessions", "events per session that closed"),
        mean("session_seconds_mean", seconds, "sessions", "seconds per session that closed"),
    ]


def _recency_fields(dataset: Dataset, days: int) -> list[FeatureField]:
    """Hours back to the last event."""
    rest = f"event to the end of the day; null if the last {days} days have none"
    lasts = {"event": ("last_event", "the last")}
    lasts |= {a: (f"last_action_{a}", f"the last {a}") for a in told_actions(dataset)}
    return [
        FeatureField(
            f"hours_since_last_{name}",
            "float64",
            f"hours from {text} {rest}",
            hours_since(measure, days),
        )
        for name, (measure, text) in lasts.items()
    ]


def _action_fields(dataset: Dataset, days: int) -> list[FeatureField]:
    """What share of the events each action has, and how often each leads to the last one."""
    counts = {action: total(f"action_{action}", days) for action in told_actions(dataset)}
    fields = [
        FeatureField(
            f"{action}_share_{days}d",
            "float64",
            f"share of {action} among the events of the last {days} days",
            ratio(count, total("events", days)),
        )
        for action, count in counts.items()
    ]
    goal = dataset.actions[-1]
    fields += [
        FeatureField(
            f"{goal}_per_{action}_{days}d",
            "float64",
            f"events {goal} per event {action}, null without any {action}, {within(days)}",
            ratio(counts[goal], count),
        )
        for action, count in counts.items()
        if action != goal
    ]
    return fields


def _category_fields(dataset: Dataset, days: int) -> list[FeatureField]:
    """How evenly a user spreads over categories, and the share of each that has a column."""
    if not has_categories(dataset):
        return []
    text = f"{CATEGORY_ENTROPY} {within(days)}"
    fields = [FeatureField(f"category_entropy_{days}d", "float64", text, category_entropy(days))]
    for place, category in enumerate(dataset.features.categories):
        term = ratio(total(f"category_{place}", days), total("categorized", days))
        text = f"share of category {category} among the events with a category {within(days)}"
        name = f"category_share_{slug(category)}_{days}d"
        fields.append(FeatureField(name, "float64", text, term))
    return fields
